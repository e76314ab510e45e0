"""torchft's way: each step asks a quorum and is voted on; a newcomer heals from a live peer.

Gradients are reduced by hand: its own DistributedDataParallel (0.2.0) ends the survivors.
"""

from datetime import timedelta

import torch
from torch._C._distributed_c10d import TCPStore
from torchft import Manager, ProcessGroupGloo  # type: ignore[import-not-found]

from tests.benchmarks.rivals.work import Trace, Work


def main() -> None:
    """Train until killed."""
    work = Work.told()
    rank, nodes = int(work.extra["rank"]), int(work.extra["nodes"])
    trace = Trace(work, rank)
    model = work.model()
    optimizer = work.optimizer(model)
    flat = flat_gradients(model)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def load(state: dict[str, dict[str, object]]) -> None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    manager = Manager(
        pg=ProcessGroupGloo(timeout=timedelta(seconds=30)),
        load_state_dict=load,
        state_dict=lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()},
        min_replica_size=1,
        replica_id=f"replica_{rank}",
        rank=0,
        world_size=1,
        store_addr="127.0.0.1",
        store_port=store.port,
        lighthouse_addr=work.extra["lighthouse"],
    )
    trace.tell("ready", manager.current_step(), 0)
    while True:
        manager.start_quorum()
        flat.zero_()
        samples = work.global_batch // nodes
        work.loss(model, samples, manager.current_step()).backward()  # type: ignore[no-untyped-call]
        manager.allreduce(flat).wait()
        if manager.should_commit():
            work.apply(model, optimizer)
            trace.tell("applied", manager.current_step(), manager.num_participants())
        else:
            trace.tell("discarded", manager.current_step(), manager.num_participants())


def flat_gradients(model: torch.nn.Module) -> torch.Tensor:
    """One buffer that all gradients are views of."""
    parameters = list(model.parameters())
    flat = torch.zeros(sum(parameter.numel() for parameter in parameters))
    at = 0
    for parameter in parameters:
        parameter.grad = flat[at : at + parameter.numel()].view_as(parameter)
        at += parameter.numel()
    return flat


if __name__ == "__main__":
    main()
