"""What tests of several rooms of the runtime share."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes on one thread: where cores are shared, its threads wait for each other."""
    import torch  # late: most rooms have none

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
