"""The five stores: one per right, since a node may write checkpoints but never bundles."""

from dataclasses import dataclass
from typing import get_args

from infra.plan.spec import ClusterSpec, StoreRole

ROLES: tuple[StoreRole, ...] = get_args(StoreRole)


@dataclass(frozen=True, kw_only=True, slots=True)
class StorePlan:
    """A store that will exist."""

    role: StoreRole
    is_retained: bool  # destroy leaves it, and lists it as kept


def store_plans(spec: ClusterSpec) -> tuple[StorePlan, ...]:
    """All stores, in a fixed order."""
    return tuple(StorePlan(role=role, is_retained=role in spec.retain_data) for role in ROLES)
