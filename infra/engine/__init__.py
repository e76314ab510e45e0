"""How the pinned Pulumi CLI is found, fetched or built, and how it is run."""

from infra.engine.find import find_engine
from infra.engine.release import Engine

__all__ = ["Engine", "find_engine"]
