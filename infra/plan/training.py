"""Training spec → the training pool's part of the plan, its faults and its advice."""

from collections.abc import Iterator

from infra.plan.facts import Facts
from infra.plan.fault import Fault
from infra.plan.settings import at
from infra.plan.spec import TrainingSpec
from runtime.node_spec import STORED_TEXTS, TrainSpec

STDLIB = "python-stdlib"
SEQUENCES_MIN = 2  # one to train on, one to hold out


def train_spec(spec: TrainingSpec, facts: Facts, cores: int) -> TrainSpec:
    """What a training node is told, that has so many cores to itself."""
    known = spec.model_dump(exclude={"data", "threads_per_worker", "schedule", "model"})
    return TrainSpec(
        **known,
        data=_data(spec, facts),
        model=spec.model,
        schedule=spec.schedule,
        threads_per_worker=spec.threads_per_worker or cores,
    )


def training_faults(spec: TrainingSpec, facts: Facts) -> list[Fault]:
    """Settings that conflict with each other or with the place."""
    return [
        *_node_faults(spec),
        *_batch_faults(spec),
        *_shape_faults(spec),
        *_data_faults(spec, facts),
    ]


def device_faults(spec: TrainingSpec, cloud: str) -> Iterator[Fault]:
    """Nodes of one machine would meet on one GPU, which NCCL refuses."""
    if spec.device == "gpu" and cloud == "local" and spec.nodes > 1:
        yield Fault(
            at=at("training.device"),
            beside=(at("training.nodes"),),
            found=f"gpu with {spec.nodes} nodes on one machine",
            allowed="gpu with one node, or cpu",
            do="set training.nodes and training.min_nodes to 1, or leave the device out",
        )


def training_advice(spec: TrainingSpec, facts: Facts) -> Iterator[str]:
    """What works, but slower than it could."""
    threads = (spec.threads_per_worker or 1) * spec.nodes
    if threads > facts.cores:
        yield (
            f"{at('training.nodes')}: {spec.nodes} workers with {threads} threads share "
            f"{facts.cores} cores; fewer nodes or threads would train faster on this machine"
        )


def _data(spec: TrainingSpec, facts: Facts) -> str:
    return facts.data or spec.data


def _node_faults(spec: TrainingSpec) -> Iterator[Fault]:
    if spec.min_nodes > spec.nodes:
        yield Fault(
            at=at("training.min_nodes"),
            beside=(at("training.nodes"),),
            found=f"{spec.min_nodes} with {spec.nodes} nodes",
            allowed=f"1 to {spec.nodes}",
            do="lower it or raise training.nodes",
        )
    if spec.warmup_steps >= spec.steps:
        yield Fault(
            at=at("training.warmup_steps"),
            beside=(at("training.steps"),),
            found=f"{spec.warmup_steps} of {spec.steps} steps",
            allowed=f"0 to {spec.steps - 1}",
            do="lower it or raise training.steps",
        )


def _batch_faults(spec: TrainingSpec) -> Iterator[Fault]:
    if spec.global_batch < spec.nodes:
        yield Fault(
            at=at("training.global_batch"),
            beside=(at("training.nodes"),),
            found=f"{spec.global_batch} with {spec.nodes} nodes",
            allowed=f"{spec.nodes} or more, a sequence per node",
            do="raise it or lower training.nodes",
        )
    if spec.micro_batch > spec.global_batch:
        yield Fault(
            at=at("training.micro_batch"),
            beside=(at("training.global_batch"),),
            found=f"{spec.micro_batch} of a global batch of {spec.global_batch}",
            allowed=f"1 to {spec.global_batch}",
            do="lower it or raise training.global_batch",
        )
    if spec.sequence_tokens > spec.model.context:
        yield Fault(
            at=at("training.sequence_tokens"),
            beside=(at("training.model.context"),),
            found=f"{spec.sequence_tokens} with a context of {spec.model.context}",
            allowed=f"8 to {spec.model.context}",
            do="lower it or raise training.model.context",
        )


def _shape_faults(spec: TrainingSpec) -> Iterator[Fault]:
    model = spec.model
    if model.width % (2 * model.heads):
        yield Fault(
            at=at("training.model.heads"),
            beside=(at("training.model.width"),),
            found=f"{model.heads} with width {model.width}",
            allowed="a number that divides width into heads of even size",
            do="change heads or width",
        )
    if model.heads % model.kv_heads:
        yield Fault(
            at=at("training.model.kv_heads"),
            beside=(at("training.model.heads"),),
            found=f"{model.kv_heads} with {model.heads} heads",
            allowed="a number that divides heads",
            do="change kv_heads or heads",
        )


def _data_faults(spec: TrainingSpec, facts: Facts) -> Iterator[Fault]:
    data = _data(spec, facts)
    if facts.data_fault is not None:
        yield Fault(
            at=at("training.data"),
            found=facts.data_fault,
            allowed=f"a readable folder or file with text in it, or {STDLIB}",
            do="correct the path or its rights",
        )
    elif data != STDLIB and not data.startswith(("/", STORED_TEXTS)):
        yield Fault(
            at=at("training.data"),
            found=f"{data}, which nodes would look for each in its own folder",
            allowed=f"an absolute path, or {STDLIB}",
            do="write the whole path",
        )
    elif 0 < facts.data_bytes < (least := SEQUENCES_MIN * (spec.sequence_tokens + 1)):
        yield Fault(
            at=at("training.data"),
            beside=(at("training.sequence_tokens"),),
            found=f"{facts.data_bytes} bytes in {data}",
            allowed=f"{least} bytes or more, for a sequence to train on and one to hold out",
            do="name more text or lower training.sequence_tokens",
        )
