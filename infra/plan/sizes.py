"""How much memory and storage a model takes: lower bounds, with the arithmetic in words.

Training holds each parameter four times in 32 bits: weight, gradient and AdamW's two moments
(Loshchilov and Hutter 2019, arXiv 1711.05101). Activations are what backward keeps of a
micro-batch; the rest of PyTorch and of the system comes on top.
"""

from dataclasses import dataclass

from infra.plan.spec import TrainingSpec
from runtime.node_spec import ModelSpec

FLOAT_BYTES = 4
COPIES_TRAINED = 4  # weight, gradient, two moments
COPIES_SAVED = 3  # a gradient is in no checkpoint
STAGES = 2  # buffers of a checkpoint on its way, in the memory of the node
RUNTIME_GIB = 1.5  # an interpreter with PyTorch in it, its writer, the agent and the system
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """So much memory at least, and why."""

    gib: float
    why: str


def parameters(model: ModelSpec) -> int:
    """Of a Llama-shaped decoder with tied embeddings."""
    kv_width = model.width // model.heads * model.kv_heads
    attention = 2 * model.width * model.width + 2 * model.width * kv_width
    layer = attention + 3 * model.width * model.hidden + 2 * model.width
    return model.vocabulary * model.width + model.layers * layer + model.width


def state_gib(model: ModelSpec) -> float:
    """A checkpoint: weights and both moments."""
    return parameters(model) * FLOAT_BYTES * COPIES_SAVED / GIB


def weights_gib(model: ModelSpec) -> float:
    """A published model version."""
    return parameters(model) * FLOAT_BYTES / GIB


def activations_gib(spec: TrainingSpec) -> float:
    """What backward needs of a micro-batch: inputs of the matrix products, and the logits twice."""
    model = spec.model
    tokens = min(spec.micro_batch, spec.global_batch) * spec.sequence_tokens
    per_layer = 6 * model.width + 3 * model.hidden
    return tokens * (model.layers * per_layer + 2 * model.vocabulary) * FLOAT_BYTES / GIB


def training_need(spec: TrainingSpec, *, on_device: bool) -> Need:
    """Of a training node's device, or of the node itself where it computes."""
    trained = parameters(spec.model) * FLOAT_BYTES * COPIES_TRAINED / GIB
    activations = activations_gib(spec)
    gib = trained + activations
    why = (
        f"{parameters(spec.model):,} parameters x {FLOAT_BYTES * COPIES_TRAINED} bytes = "
        f"{trained:.1f} GiB, activations {activations:.1f} GiB"
    )
    if on_device:
        return Need(gib=gib, why=why)
    host = host_need(spec)
    return Need(gib=gib + host.gib, why=f"{why}, {host.why}")


def host_need(spec: TrainingSpec) -> Need:
    """Of a training node beside what it computes with."""
    staged = STAGES * state_gib(spec.model)
    why = f"checkpoints on their way {staged:.1f} GiB, PyTorch and system {RUNTIME_GIB} GiB"
    return Need(gib=staged + RUNTIME_GIB, why=why)


def replica_need(model: ModelSpec) -> Need:
    """Of a replica's node: the weights, and what stands around them."""
    weights = weights_gib(model)
    why = f"weights {weights:.1f} GiB, PyTorch and system {RUNTIME_GIB} GiB"
    return Need(gib=weights + RUNTIME_GIB, why=why)
