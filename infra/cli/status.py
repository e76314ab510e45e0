"""`atoll status`: a stack at one moment."""

from pydantic import JsonValue

from infra.cli.models import model_shapes
from infra.cli.nodes import gateway_shapes, held_pools, look, node_shapes, replica_shapes
from infra.cli.runs import run_shapes
from infra.cli.screen import BAD, Screen
from infra.cli.shapes import ModelShape, PoolSizeShape, RunDetail, RunShape, StatusShape
from infra.clouds.view import HeldPool, StackView

MODELS_SHOWN = 20  # newest
PHASES = ("detect", "agree", "form", "fetch", "first step")  # of a change of membership
METRICS_SHOWN = 20  # lines of a run's metrics on a screen; --json has all


def status(view: StackView) -> StatusShape:
    """Look at everything once."""
    seen = look(view)
    held = held_pools(view)
    nodes = node_shapes(view, seen, held)
    return StatusShape(
        stack=view.stack,
        stack_id=view.stack_id,
        endpoint_url=view.endpoint_url,
        pools=tuple(_pool(name, pool) for name, pool in held.items()),
        nodes=tuple(nodes),
        runs=tuple(run_shapes(view, seen)),
        models=tuple(model_shapes(view)[:MODELS_SHOWN]),
        replicas=tuple(replica_shapes(seen, nodes)),
        gateways=tuple(gateway_shapes(seen, nodes)),
    )


def print_status(shape: StatusShape, screen: Screen) -> None:
    """For people."""
    screen.line(f"stack {shape.stack} ({shape.stack_id})", "bold")
    screen.line(f"endpoint {shape.endpoint_url or 'none: the balancer is not up'}")
    for pool in shape.pools:
        if pool.why:
            screen.line(f"pool {pool.pool}: {pool.nodes} of {pool.wanted} nodes: {pool.why}", BAD)
    screen.table(
        "nodes",
        ("node", "state", "address", "pid", ""),
        [(n.node, n.state, n.address, _text(n.pid), n.why) for n in shape.nodes],
    )
    print_runs(shape.runs, screen)
    print_models(shape.models, screen)
    screen.table(
        "replicas",
        ("node", "state", "address", "model"),
        [(r.node, r.state, r.address, (r.model or "")[:12]) for r in shape.replicas],
    )
    screen.table(
        "gateways",
        ("node", "state", "address"),
        [(g.node, g.state, g.address) for g in shape.gateways],
    )


def print_runs(runs: tuple[RunShape, ...], screen: Screen) -> None:
    """A table of runs."""
    screen.table(
        "runs",
        ("run", "state", "step", "loss", "epoch", "members", ""),
        [
            (
                run.run,
                run.state,
                _text(run.step) + (f"/{run.steps}" if run.steps else ""),
                f"{run.loss:.3f}" if run.loss is not None else "",
                _text(run.epoch),
                ", ".join(run.members),
                run.why,
            )
            for run in runs
        ],
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def print_run(run: RunDetail, screen: Screen) -> None:
    """One run in full, its metrics thinned to a screenful."""
    print_runs((run,), screen)
    screen.table(
        "epochs",
        ("epoch", "from step", "members", *(f"{name} s" for name in PHASES), "steps lost", ""),
        [
            (
                str(e.epoch),
                str(e.resume_step),
                ", ".join(e.members),
                *(_seconds(getattr(e, f"{name.replace(' ', '_')}_s")) for name in PHASES),
                str(e.steps_lost),
                e.why,
            )
            for e in run.epochs
        ],
    )
    if run.straggler:
        screen.line(run.straggler)
    if run.effective is not None:
        screen.line(f"{run.effective:.1%} of the time went into steps that count")
    every = max(1, len(run.metrics) // METRICS_SHOWN)
    names = sorted({name for line in run.metrics for name in line} - {"epoch"})
    screen.table(
        "metrics",
        names,
        [[_cell(line.get(name)) for name in names] for line in run.metrics[::-1][::every][::-1]],
    )


def print_models(models: tuple[ModelShape, ...], screen: Screen) -> None:
    """A table of model versions."""
    screen.table(
        "models",
        ("name", "digest", "", "run", "step", "published"),
        [
            (
                model.name,
                model.digest[:12],
                "live" if model.live else "",
                model.run,
                str(model.step),
                f"{model.created_at:%Y-%m-%d %H:%M:%S}",
            )
            for model in models
        ],
    )


def _pool(name: str, held: HeldPool | None) -> PoolSizeShape:
    if held is None:
        return PoolSizeShape(pool=name, wanted=None, nodes=0)
    return PoolSizeShape(pool=name, wanted=held.wanted, nodes=len(held.nodes), why=held.why)


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _cell(value: JsonValue) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
