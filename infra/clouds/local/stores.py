"""Stores as folders; the bundle store is made with the runtime in it."""

from infra.bundle import build_bundle
from infra.checkout import ROOT
from infra.clouds.local.place import Place
from infra.clouds.resources import Store
from infra.plan.stores import StorePlan


def make_stores(plans: tuple[StorePlan, ...], place: Place) -> dict[str, Store]:
    """One folder per right, by role."""
    return {plan.role: _store(plan, place) for plan in plans}


def _store(plan: StorePlan, place: Place) -> Store:
    inputs = {**place.inputs(), "role": plan.role, "retain": plan.is_retained}
    if plan.role == "bundle":
        inputs["bundle"] = {"root": str(ROOT), "sha256": build_bundle(ROOT).sha256}
    return Store(plan.role, inputs, place.after())
