"""Model versions of a stack, and which of them is live."""

from infra.cli.shapes import ModelShape
from infra.clouds.view import StackView
from runtime.registry import live_version, versions


def model_shapes(view: StackView) -> list[ModelShape]:
    """All versions of all models, newest first."""
    shapes: list[ModelShape] = []
    for name in model_names(view):
        live = live_version(view.control, name)
        shapes += [
            ModelShape(
                name=version.name,
                digest=version.digest,
                live=live is not None and live.digest == version.digest,
                run=version.run,
                step=version.step,
                created_at=version.created_at,
                metrics=dict(version.metrics),
            )
            for version in versions(view.models, name)
        ]
    return sorted(shapes, key=lambda shape: shape.created_at, reverse=True)


def model_names(view: StackView) -> list[str]:
    """Names that anything was published under."""
    return sorted({info.key.partition("/")[0] for info in view.models.list()})


def live_model(view: StackView) -> ModelShape | None:
    """The newest version that replicas shall serve."""
    return next((shape for shape in model_shapes(view) if shape.live), None)


def describe_model(shape: ModelShape) -> str:
    """One line: name, digest, where it comes from, how good it is."""
    bits = shape.metrics.get("bits_per_byte", shape.metrics.get("validation_bits_per_byte"))
    quality = f", validation {bits:.3f} bits per byte" if isinstance(bits, float) else ""
    return f"{shape.name} {shape.digest[:12]} of run {shape.run}, step {shape.step}{quality}"
