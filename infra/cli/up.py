"""`atoll up`: engine, stack, run, model, answer. Each step is left out where it is done already."""

from datetime import datetime
from pathlib import Path

from infra.cli.ask import Question, ask_in_time
from infra.cli.claims import new_run_name, resume_run, start_run
from infra.cli.clock import Clock
from infra.cli.deployer import Deployer, Outputs
from infra.cli.follow import follow
from infra.cli.models import describe_model, live_model
from infra.cli.nodes import look
from infra.cli.readiness import is_ready, wait_ready
from infra.cli.runs import WRITER
from infra.cli.screen import DIM, GOOD, Screen
from infra.cli.shapes import AnswerShape, UpShape
from infra.cli.stack import find_stack, standing
from infra.cli.turn import turn
from infra.clouds.view import StackView
from runtime.coordination.log import PoolLog, RunEntry
from runtime.errors import Refused

PROMPT = "def read_lines(path):\n"
PROMPT_TOKENS = 48


def up(home: Path, deployer: Deployer, screen: Screen, clock: Clock) -> UpShape:
    """Make the stack what its file says, see to a live model, ask it a question.

    Raises Refused or Unavailable with the reason where a step fails; all before it stays.
    """
    stack = deployer.stack
    run, is_changed = _deploy(deployer, home, screen, clock)
    outputs = deployer.outputs()
    view = find_stack(home, stack)
    if run is not None:
        ended = follow(view, run, screen, clock).entry
        if ended.outcome != "published":
            raise Refused(f"run {run} {ended.outcome}: {ended.why or 'no reason given'}")
    model = live_model(view)
    if model is None:
        raise Refused(f"stack {stack}: no model is live; train one: atoll runs start")
    answer: AnswerShape | None = None
    if run is None and not is_changed and is_ready(view, model.digest):
        screen.line(f"nothing to change: stack {stack} is up", GOOD)
        screen.line(f"model version {describe_model(model)}")
    else:
        screen.line(f"model version {describe_model(model)}", GOOD)
        wait_ready(view, model.digest, screen, clock)
        answer = _ask(outputs, screen, clock)
    _tell_next(stack, outputs, screen)
    return UpShape(
        stack=stack,
        endpoint_url=outputs.endpoint_url,
        is_changed=is_changed,
        run=run,
        model=model,
        answer=answer,
    )


def _deploy(
    deployer: Deployer, home: Path, screen: Screen, clock: Clock
) -> tuple[str | None, bool]:
    """`pulumi up` unless a run is live; the run to follow, and whether anything was changed."""
    stack = deployer.stack
    with turn(home, stack, screen, clock):
        began = clock.date()
        live = live_run(standing(home, stack))
        if live is not None and _is_worked_on(find_stack(home, stack), live, clock):
            screen.line(f"run {live.run} is live in stack {stack}: nothing is changed meanwhile")
            return live.run, False
        is_changed = deployer.up()
        return _see_to_run(find_stack(home, stack), began, screen, clock), is_changed


def live_run(view: StackView | None) -> RunEntry | None:
    """The open run of a stack, if somebody works on it."""
    if view is None or not any(pool.role == "training" for pool in view.pools):
        return None
    run = PoolLog(view.control, view.training().pool, WRITER).state().open_run
    return run if run is not None and look(view).is_live(run) else None


def _is_worked_on(view: StackView, run: RunEntry, clock: Clock) -> bool:
    """Whether a run that counts as live has nodes, or gets them now.

    Who claimed it may have been killed before its pool grew; where nobody keeps the pool it is
    closed, since an engine that met it would refuse.
    """
    pool = view.training().pool
    held = view.held(pool)
    if (held and held.nodes) or look(view).members_of(run.run):
        return True
    if held is None:
        PoolLog(view.control, pool, WRITER).end(
            run.run, "failed", "nobody kept its pool", clock.date()
        )
        return False
    resume_run(view, run.run, clock.date())
    return True


def _see_to_run(view: StackView, began: datetime, screen: Screen, clock: Clock) -> str | None:
    """The run to follow: an open one, or a new one if no model is live."""
    pool = view.training()
    log = PoolLog(view.control, pool.pool, WRITER)
    state = log.state()
    if state.open_run is not None:
        if not look(view).is_live(state.open_run):
            screen.line(f"run {state.open_run.run} goes on from its last commit")
            resume_run(view, state.open_run.run, clock.date())
        return state.open_run.run
    if live_model(view) is not None:
        return None
    if state.hold is not None and state.hold.at < began:
        # Whoever held it held Pulumi's lock too, which was ours since then: it is gone.
        log.release(clock.date())
    now = clock.date()
    started = start_run(view, new_run_name(now), now)
    screen.line(f"run {started.run} claimed; {started.nodes} nodes are starting")
    return started.run


def _ask(outputs: Outputs, screen: Screen, clock: Clock) -> AnswerShape:
    """One question, shown with the first piece of its answer."""
    question = Question(prompt=PROMPT, max_tokens=PROMPT_TOKENS, temperature=0.0)
    screen.line("question, and the answer through the balancer:", DIM)
    is_begun = False

    def show(piece: str) -> None:
        nonlocal is_begun
        if not is_begun:
            screen.piece(PROMPT)
        is_begun = True
        screen.piece(piece)

    answer = ask_in_time(outputs.endpoint_url, outputs.api_key, question, show, clock)
    screen.line("")
    return answer


def _tell_next(stack: str, outputs: Outputs, screen: Screen) -> None:
    option = "" if stack == "local" else f" --stack {stack}"
    screen.line(f"endpoint {outputs.endpoint_url}", "bold")
    screen.line("next:")
    screen.line(f'  atoll ask "class Point:"{option}')
    screen.line(f"  atoll status{option}")
    screen.line(f"  make down{'' if stack == 'local' else f' STACK={stack}'}")
