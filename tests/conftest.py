"""One seed for all randomness of a test run: printed when something fails, replayed by --seed."""

import os
import secrets
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings

from infra.engine import Engine, find_engine

ROOT = Path(__file__).resolve().parent.parent
SEEDS = 1 << 32
SEED = pytest.StashKey[int]()

# No deadline: a test that is slow on a loaded machine is not wrong.
settings.register_profile(
    "atoll", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "atoll"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--seed N` replays a run."""
    parser.addoption("--seed", type=int, default=None, help="replay the run that printed this seed")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed, before hypothesis reads its own option."""
    given = config.getoption("--seed")
    seed = secrets.randbelow(SEEDS) if given is None else int(given)
    config.stash[SEED] = config.option.seed = seed  # the option reaches the workers of `-n`
    if config.getoption("--hypothesis-seed", None) is None:
        config.option.hypothesis_seed = str(seed)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Say how a failed run is replayed."""
    if exitstatus != 0:
        terminalreporter.write_line(f"replay: pytest --seed {config.stash[SEED]}")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test: its own, so that it draws the same alone as among others."""
    return Random(f"{request.config.stash[SEED]} {request.node.nodeid}").randrange(SEEDS)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Found, fetched or built once per machine: the first time may take minutes."""
    return find_engine(print)
