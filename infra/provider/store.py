"""Store of the one-machine cloud: a folder, and for bundles the runtime in it."""

import json
import shutil
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from infra.bundle import build_bundle
from infra.checkout import stack_folder
from infra.provider.kind import Context, Inputs, Kind
from infra.provider.wire import Properties
from runtime.errors import Corrupt, Refused
from runtime.objects import file_url, open_store

KEPT = "KEPT"  # in a store that outlives its stack


class BundleSource(Inputs):
    """The runtime that the store shall hold as `<sha256>`; packed here, so no file is left over."""

    root: str = Field(description="The clone that it is packed from.")
    sha256: str


class StoreInputs(Inputs):
    """What a Store is made of."""

    home: str = Field(description="Folder of all stacks of this clone.")
    stack: str
    stack_id: str
    role: str
    retain: bool = False
    bundle: BundleSource | None = None


class StoreKind(Kind[StoreInputs]):
    """`atoll:index:Store`."""

    token: ClassVar[str] = "atoll:index:Store"  # noqa: S105
    replaces: ClassVar[frozenset[str]] = frozenset({"home", "stack_id", "role"})
    computed: ClassVar[tuple[str, ...]] = ("url",)
    inputs = StoreInputs

    def create(self, inputs: StoreInputs, context: Context) -> tuple[str, Properties]:
        """Make the folder if it is not there, and put the bundle into it."""
        folder = _folder(inputs)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise Refused(
                f"store {inputs.role}: found {fault.strerror} at {folder}; allowed a folder that "
                "can be written to; change its rights or set ATOLL_HOME"
            ) from fault
        _put_bundle(inputs)
        return f"{inputs.stack_id}/{inputs.role}", {"url": file_url(folder)}

    def read(self, inputs: StoreInputs, computed: Properties) -> bool:
        """Whether the folder and the bundle it was made with are there."""
        folder = _folder(inputs)
        bundle = inputs.bundle
        return folder.is_dir() and (bundle is None or (folder / bundle.sha256).is_file())

    def update(self, inputs: StoreInputs, computed: Properties, context: Context) -> Properties:
        """A new bundle is added; old ones stay, since a node may still boot from them."""
        _put_bundle(inputs)
        return computed

    def delete(self, inputs: StoreInputs, computed: Properties, context: Context) -> None:
        """Remove the folder, or mark it as kept."""
        folder = _folder(inputs)
        if not folder.exists():
            return
        if inputs.retain:
            marker = {"stack": inputs.stack, "stack_id": inputs.stack_id, "role": inputs.role}
            (folder / KEPT).write_text(json.dumps(marker))
            context.say(f"kept {folder}", kept=True)
            return
        shutil.rmtree(folder)


def _folder(inputs: StoreInputs) -> Path:
    return stack_folder(Path(inputs.home), inputs.stack_id) / "stores" / inputs.role


def _put_bundle(inputs: StoreInputs) -> None:
    if inputs.bundle is None:
        return
    packed = build_bundle(Path(inputs.bundle.root))
    if packed.sha256 != inputs.bundle.sha256:
        raise Corrupt(
            f"bundle: found SHA-256 {packed.sha256}; allowed {inputs.bundle.sha256}; "
            "runtime/ was changed during the update: run up again"
        )
    open_store(file_url(_folder(inputs))).put(packed.sha256, packed.data)
