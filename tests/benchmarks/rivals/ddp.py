"""torchrun's way: a lost worker ends all, all start again from the last checkpoint of ten steps."""

import os

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from runtime.train.state import copy_in, set_step, tensors_of
from tests.benchmarks.rivals.work import Trace, Work

CHECKPOINT_STEPS = 10


def main() -> None:
    """Train until killed."""
    work = Work.told()
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    trace = Trace(work, rank)
    model = work.model()
    optimizer = work.optimizer(model)
    path = work.folder / "checkpoint.safetensors"
    tensors = {**tensors_of(model, optimizer), "step": torch.zeros(1)}
    if path.exists():
        copy_in(tensors, [path.read_bytes()])
    step = int(tensors["step"])
    set_step(optimizer, step)
    wrapped = DistributedDataParallel(model)
    trace.tell("ready", step, world)
    while True:
        optimizer.zero_grad(set_to_none=False)
        work.loss(wrapped, work.global_batch // world, step).backward()  # type: ignore[no-untyped-call]
        work.apply(model, optimizer)
        step += 1
        trace.tell("applied", step, world)
        if rank == 0 and step % CHECKPOINT_STEPS == 0:
            partial = path.with_suffix(".partial")
            tensors["step"].fill_(step)
            save_file(tensors, partial)
            os.replace(partial, path)


if __name__ == "__main__":
    main()
