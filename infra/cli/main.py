"""`atoll`: what a person types beside `pulumi`.

Each command is thin and imports what it does only when it is called: `--help` needs no stack.
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from infra.checkout import home
from infra.cli.clock import real_clock
from infra.cli.screen import Screen
from runtime.errors import AtollError, Refused
from runtime.limits import NOTICE_AHEAD_S, NOTICE_S_MIN

if TYPE_CHECKING:
    from infra.cli.shapes import RunStarted
    from infra.clouds.view import StackView

app = typer.Typer(
    name="atoll",
    help="A training and serving stack: bring it up, look at it, use it, take it down.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
runs_app = typer.Typer(help="Training runs.", no_args_is_help=True, rich_markup_mode=None)
models_app = typer.Typer(help="Model versions.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(runs_app, name="runs")
app.add_typer(models_app, name="models")

Stack = Annotated[str, typer.Option("--stack", "-s", help="Name of the Pulumi stack.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON value; all else goes to standard error.")
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Watch it to its end; exit status 1 if it fails.")
]
Run = Annotated[str, typer.Argument(help="Name of the run, as `atoll runs list` shows it.")]
STACK = "local"


@app.command("up")
def up_command(stack: Stack = STACK, is_json: Json = False) -> None:
    """`pulumi up`, train a model if none is live, and ask it a question. Safe to repeat."""
    from infra.cli.deployer import Deployer
    from infra.cli.up import up

    screen = Screen(is_json)
    screen.result(up(home(), Deployer(stack, screen), screen, real_clock()))


@app.command("down")
def down_command(
    stack: Stack = STACK,
    is_forced: Annotated[
        bool, typer.Option("--force", help="Cancel a live run first; else destroy is refused.")
    ] = False,
    is_json: Json = False,
) -> None:
    """`pulumi destroy`, then sweep. Exit status 1 if anything is left."""
    from infra.cli.deployer import Deployer
    from infra.cli.down import down

    screen = Screen(is_json)
    shape = down(home(), Deployer(stack, screen), screen, real_clock(), is_forced)
    screen.result(shape)
    if shape.left or not shape.is_destroyed:
        raise typer.Exit(1)


@app.command("status")
def status_command(stack: Stack = STACK, is_json: Json = False) -> None:
    """Nodes, runs, model versions, replicas, gateways and the endpoint, now."""
    from infra.cli.stack import find_stack
    from infra.cli.status import print_status, status

    screen = Screen(is_json)
    shape = status(find_stack(home(), stack))
    if not is_json:
        print_status(shape, screen)
    screen.result(shape)


@app.command("plan")
def plan_command(stack: Stack = STACK, is_json: Json = False) -> None:
    """What `up` would make of the stack file, and its price. Changes nothing."""
    from infra.cli.planned import planned, print_plan

    screen = Screen(is_json)
    shape = planned(stack)
    if not is_json:
        print_plan(shape, screen)
    screen.result(shape)


@app.command("doctor")
def doctor_command(
    stack: Stack = STACK,
    cloud: Annotated[
        str | None,
        typer.Option(
            "--cloud", help="Look at your account there instead, before the stack is made: aws."
        ),
    ] = None,
    is_json: Json = False,
) -> None:
    """Whether this machine can carry a stack. Exit status 1 if there is a fault.

    With --cloud: whether your account can: who you are, region, machines, quotas, images,
    reservations, certificate. It says what to request, and changes nothing.
    """
    from infra.cli.ahead import ahead, print_ahead
    from infra.cli.doctor import doctor, print_doctor

    screen = Screen(is_json)
    shape = doctor(home(), stack) if cloud is None else ahead(home(), stack, cloud)
    if not is_json and cloud is None:
        print_doctor(shape, screen)
    elif not is_json:
        print_ahead(shape, screen)
    screen.result(shape)
    if any(check.state == "fault" for check in shape.checks):
        raise typer.Exit(1)


@app.command("sweep")
def sweep_command(
    stack: Stack = STACK,
    is_deleting: Annotated[
        bool, typer.Option("--delete", help="End and remove what is left; asks first.")
    ] = False,
    is_sure: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    cloud: Annotated[
        str | None, typer.Option("--cloud", help="Of a stack that was made elsewhere: aws.")
    ] = None,
    region: Annotated[str | None, typer.Option("--region", help="Its region.")] = None,
    stack_id: Annotated[
        str | None, typer.Option("--id", help="Its id, which its names and tags carry.")
    ] = None,
    is_json: Json = False,
) -> None:
    """What the stack has left, without Pulumi's state. Exit status 1 if anything.

    On a cloud it needs credentials, and the marker that `up` has left here; without one,
    --cloud, --region and --id say which stack is meant.
    """
    from infra.cli.sweeping import named, print_sweep, remove, sweep_shape

    screen = Screen(is_json)
    look = named(home(), stack, cloud, region, stack_id)
    rest = look()
    print_sweep(stack, rest, screen)
    if is_deleting and rest.left:
        if not is_sure and not _agrees(f"end and remove these {len(rest.left)}?"):
            raise Refused("sweep: nothing was removed; answer y, or add --yes")
        remove(rest)
        rest = look()
        print_sweep(stack, rest, screen)
    screen.result(sweep_shape(stack, rest))
    if rest.left:
        raise typer.Exit(1)


@app.command("ask")
def ask_command(
    prompt: Annotated[str, typer.Argument(help="Text that the model shall go on with.")],
    stack: Stack = STACK,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Most new tokens of the answer.")
    ] = 64,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", min=0.0, max=2.0, help="0 is greedy. [default: the server's]"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="The same seed gives the same answer.")
    ] = None,
    is_json: Json = False,
) -> None:
    """Ask the endpoint; the answer streams. Asks again for 30 s while no replica is ready."""
    from infra.cli.ask import Question, ask_in_time
    from infra.cli.deployer import Deployer

    screen = Screen(is_json)
    outputs = Deployer(stack, screen).outputs()
    question = Question(prompt=prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)
    answer = ask_in_time(
        outputs.endpoint_url, outputs.api_key, question, screen.piece, real_clock()
    )
    screen.line("")
    screen.result(answer)


@app.command("reclaim")
def reclaim_command(
    node: Annotated[str, typer.Argument(help="Name of a node, as `atoll status` shows it.")],
    after_s: Annotated[
        float,
        typer.Option(
            "--after", min=0.0, max=NOTICE_AHEAD_S, help="Seconds from the notice to the end."
        ),
    ] = NOTICE_S_MIN,
    stack: Stack = STACK,
    is_json: Json = False,
) -> None:
    """Rehearse a spot reclaim: give a node notice, kill it when the time is over."""
    from infra.cli.reclaiming import reclaim
    from infra.cli.stack import find_stack

    screen = Screen(is_json)
    shape = reclaim(find_stack(home(), stack), node, after_s)
    screen.line(f"{node} has notice: killed in {after_s:.0f} s, then started anew")
    screen.result(shape)


@runs_app.command("list")
def runs_list_command(stack: Stack = STACK, is_json: Json = False) -> None:
    """The newest runs, newest first."""
    from infra.cli.nodes import look
    from infra.cli.runs import run_shapes
    from infra.cli.shapes import RunsShape
    from infra.cli.stack import find_stack
    from infra.cli.status import print_runs

    screen = Screen(is_json)
    view = find_stack(home(), stack)
    shape = RunsShape(runs=tuple(run_shapes(view, look(view))))
    if not is_json:
        print_runs(shape.runs, screen)
    screen.result(shape)


@runs_app.command("show")
def runs_show_command(run: Run, stack: Stack = STACK, is_json: Json = False) -> None:
    """A run with its epochs and metrics."""
    from infra.cli.nodes import look
    from infra.cli.runs import run_detail
    from infra.cli.stack import find_stack
    from infra.cli.status import print_run

    screen = Screen(is_json)
    view = find_stack(home(), stack)
    shape = run_detail(view, run, look(view))
    if not is_json:
        print_run(shape, screen)
    screen.result(shape)


@runs_app.command("start")
def runs_start_command(
    stack: Stack = STACK, is_following: Follow = False, is_json: Json = False
) -> None:
    """Start a run now. Refused while one is live."""
    from infra.cli.claims import new_run_name, start_run
    from infra.cli.stack import find_stack

    view, clock = find_stack(home(), stack), real_clock()
    now = clock.date()
    _claimed(view, start_run(view, new_run_name(now), now), Screen(is_json), is_following)


@runs_app.command("resume")
def runs_resume_command(
    run: Run, stack: Stack = STACK, is_following: Follow = False, is_json: Json = False
) -> None:
    """Go on with a run that failed or was stopped, from its newest sound checkpoint."""
    from infra.cli.claims import continue_run
    from infra.cli.stack import find_stack

    view = find_stack(home(), stack)
    started = continue_run(view, run, real_clock().date())
    _claimed(view, started, Screen(is_json), is_following)


@runs_app.command("stop")
def runs_stop_command(
    run: Run,
    stack: Stack = STACK,
    is_forced: Annotated[
        bool, typer.Option("--force", help="The same: a run is ended by record, alive or not.")
    ] = False,
    is_json: Json = False,
) -> None:
    """End a run as cancelled; its nodes leave. Its commits stay, nothing is published."""
    from infra.cli.claims import stop_run
    from infra.cli.stack import find_stack

    del is_forced
    screen = Screen(is_json)
    stopped = stop_run(find_stack(home(), stack), run, "atoll runs stop", real_clock().date())
    said = "is" if stopped.is_changed else "had ended before:"
    screen.line(f"run {run} {said} {stopped.state}")
    screen.result(stopped)


@models_app.command("list")
def models_list_command(stack: Stack = STACK, is_json: Json = False) -> None:
    """All model versions, newest first."""
    from infra.cli.models import model_shapes
    from infra.cli.shapes import ModelsShape
    from infra.cli.stack import find_stack
    from infra.cli.status import print_models

    screen = Screen(is_json)
    shape = ModelsShape(models=tuple(model_shapes(find_stack(home(), stack))))
    if not is_json:
        print_models(shape.models, screen)
    screen.result(shape)


def _claimed(view: "StackView", started: "RunStarted", screen: Screen, is_following: bool) -> None:
    """Tell of a run that was just claimed, and watch it if that is wished."""
    from infra.cli.follow import follow

    screen.line(f"run {started.run} claimed; {started.nodes} nodes are starting")
    screen.result(started)
    if not is_following:
        return
    if follow(view, started.run, screen, real_clock()).entry.outcome != "published":
        raise typer.Exit(1)


def _agrees(question: str) -> bool:
    """Ask on the terminal; nobody there means no."""
    if not sys.stdin.isatty():
        return False
    return typer.confirm(question, err=True)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; exit status 1 for a fault told in one sentence, 2 for wrong usage."""
    try:
        app(args=arguments, prog_name="atoll")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except AtollError as fault:
        print(f"atoll: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
