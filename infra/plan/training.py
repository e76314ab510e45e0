"""Training spec → the training pool's part of the plan, and its faults."""

from infra.plan.facts import Facts
from infra.plan.fault import Fault
from infra.plan.spec import TrainingSpec
from runtime.node_spec import TrainSpec

AT = "atoll:training"


def train_spec(spec: TrainingSpec, facts: Facts) -> TrainSpec:
    """What a training node is told."""
    known = spec.model_dump(exclude={"threads_per_worker", "schedule", "model"})
    return TrainSpec(
        **known,
        model=spec.model,
        schedule=spec.schedule,
        threads_per_worker=spec.threads_per_worker or max(1, facts.cores // spec.nodes),
    )


def training_faults(spec: TrainingSpec, facts: Facts) -> list[Fault]:
    """Settings that conflict with each other or with the place."""
    faults = _shape_faults(spec)
    if spec.min_nodes > spec.nodes:
        faults.append(
            Fault(
                at=f"{AT}.min_nodes",
                found=f"{spec.min_nodes} with {spec.nodes} nodes",
                allowed=f"1 to {spec.nodes}",
                do="lower it or raise nodes",
            )
        )
    if spec.global_batch < spec.nodes:
        faults.append(
            Fault(
                at=f"{AT}.global_batch",
                found=f"{spec.global_batch} with {spec.nodes} nodes",
                allowed=f"at least {spec.nodes}, a sequence per node",
                do="raise it or lower nodes",
            )
        )
    if spec.warmup_steps >= spec.steps:
        faults.append(
            Fault(
                at=f"{AT}.warmup_steps",
                found=f"{spec.warmup_steps} of {spec.steps} steps",
                allowed=f"0 to {spec.steps - 1}",
                do="lower it or raise steps",
            )
        )
    if facts.data_fault is not None:
        faults.append(
            Fault(
                at=f"{AT}.data",
                found=facts.data_fault,
                allowed="a readable folder or file with text in it, or python-stdlib",
                do="correct the path or its rights",
            )
        )
    return faults


def _shape_faults(spec: TrainingSpec) -> list[Fault]:
    model = spec.model
    faults = []
    if model.width % (2 * model.heads):
        faults.append(
            Fault(
                at=f"{AT}.model.heads",
                found=f"{model.heads} with width {model.width}",
                allowed="a number that divides width into heads of even size",
                do="change heads or width",
            )
        )
    if model.heads % model.kv_heads:
        faults.append(
            Fault(
                at=f"{AT}.model.kv_heads",
                found=f"{model.kv_heads} with {model.heads} heads",
                allowed="a number that divides heads",
                do="change kv_heads or heads",
            )
        )
    if spec.sequence_tokens > model.context:
        faults.append(
            Fault(
                at=f"{AT}.sequence_tokens",
                found=f"{spec.sequence_tokens} with a context of {model.context}",
                allowed=f"8 to {model.context}",
                do="lower it or raise model.context",
            )
        )
    return faults
