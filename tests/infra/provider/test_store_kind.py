"""The folder store as a resource."""

import threading
from pathlib import Path

import pytest

from infra.bundle import build_bundle
from infra.checkout import ROOT
from infra.provider.kind import Context
from infra.provider.store import KEPT, BundleSource, StoreInputs, StoreKind
from runtime.errors import Corrupt, Refused
from runtime.objects import open_store


def quiet() -> Context:
    def say(message: str, *, kept: bool = False) -> None:
        del message, kept

    return Context(say=say, cancelled=threading.Event())


def inputs(home: Path, **changes: object) -> StoreInputs:
    known = {"home": str(home), "stack": "local", "stack_id": "0badcafe", "role": "bundle"}
    return StoreInputs.model_validate(known | changes)


def test_a_store_is_there_after_create_and_gone_after_delete(tmp_path: Path) -> None:
    _, computed = StoreKind().create(inputs(tmp_path), quiet())
    open_store(str(computed["url"])).put("a/b", b"1")

    assert StoreKind().read(inputs(tmp_path), computed)
    StoreKind().delete(inputs(tmp_path), computed, quiet())
    assert not StoreKind().read(inputs(tmp_path), computed)
    StoreKind().delete(inputs(tmp_path), computed, quiet())


def test_create_takes_over_a_folder_that_a_killed_up_left(tmp_path: Path) -> None:
    _, computed = StoreKind().create(inputs(tmp_path), quiet())
    store = open_store(str(computed["url"]))
    store.put("a", b"1")

    StoreKind().create(inputs(tmp_path), quiet())

    assert store.get("a") == b"1"


def test_refresh_sees_a_missing_bundle(tmp_path: Path) -> None:
    bundle = build_bundle(ROOT)
    with_bundle = inputs(tmp_path, bundle={"root": str(ROOT), "sha256": bundle.sha256})
    _, computed = StoreKind().create(with_bundle, quiet())
    store = open_store(str(computed["url"]))

    assert store.get(bundle.sha256) == bundle.data
    store.delete(bundle.sha256)
    assert not StoreKind().read(with_bundle, computed)


def test_a_bundle_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    stale = inputs(tmp_path, bundle=BundleSource(root=str(ROOT), sha256="0" * 64))

    with pytest.raises(Corrupt, match="run up again"):
        StoreKind().create(stale, quiet())


def test_a_retained_store_is_marked_and_stays(tmp_path: Path) -> None:
    kept = inputs(tmp_path, role="models", retain=True)
    _, computed = StoreKind().create(kept, quiet())

    StoreKind().delete(kept, computed, quiet())

    assert (tmp_path / "stacks" / "0badcafe" / "stores" / "models" / KEPT).is_file()


def test_a_home_that_is_no_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("")

    with pytest.raises(Refused, match=r"store bundle: found Not a directory at .* ATOLL_HOME"):
        StoreKind().create(inputs(home), quiet())
