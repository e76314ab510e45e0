"""Stores to run a suite on: each server is started when it is first asked for, once per process."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runtime.objects import Patience, Store, file_url, open_store
from tests.doubles.clock import patience
from tests.doubles.fault_proxy import WELL, FaultProxy
from tests.doubles.store_servers import NO_METADATA, SERVERS, StoreServer, options


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a store is, still empty."""

    url: str
    take_away: Callable[[], None]  # afterwards it can't answer
    options: dict[str, str] = field(default_factory=dict)

    def open(self, patience: Patience | None = None) -> Store:
        """A client of its own; unless told otherwise its pauses cost no time."""
        return open_store(self.url, patience=patience or no_wait(), options=self.options)


def no_wait() -> Patience:
    """A patience of its own."""
    return patience()


def folder_place(folder: Path) -> Place:
    """A folder; a file in its place can't answer."""

    def take_away() -> None:
        shutil.rmtree(folder)
        folder.write_text("a file")

    return Place(url=file_url(folder), take_away=take_away)


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxied:
    """A server with a proxy before it."""

    server: StoreServer
    proxy: FaultProxy

    def options(self) -> dict[str, str]:
        """What reaches the server through the proxy."""
        return options(self.server.scheme, self.proxy.url)


class Places:
    """Makes empty places, on servers of which there is one each."""

    def __init__(self, folder: Path, until: ExitStack) -> None:
        self._folder = folder
        self._until = until
        self._numbers = itertools.count()
        self._proxied: dict[str, Proxied] = {}

    def new(self, name: str) -> Place:
        """A place of its own: a folder, or a prefix of the server's bucket."""
        number = next(self._numbers)
        if name == "folder":
            return folder_place(self._folder / f"place-{number}")
        behind = self.proxied(name)
        return Place(
            url=f"{behind.server.url}/place-{number}",
            take_away=behind.proxy.down,
            options=behind.options(),
        )

    def proxied(self, scheme: str) -> Proxied:
        """The server and its proxy, all well."""
        if scheme not in self._proxied:
            server = self._until.enter_context(SERVERS[scheme]())
            proxy = self._until.enter_context(FaultProxy(server.host, server.port))
            self._proxied[scheme] = Proxied(server=server, proxy=proxy)
        self.mend()
        return self._proxied[scheme]

    def mend(self) -> None:
        """All is well again."""
        for behind in self._proxied.values():
            behind.proxy.up()
            behind.proxy.set(WELL)


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """No client of ours asks a metadata address; should one, a closed port answers at once."""
    with ExitStack() as until, pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith(("AWS_", "GOOGLE_", "AZURE_")):
                patch.delenv(name)
        for name, value in NO_METADATA.items():
            patch.setenv(name, value)
        yield Places(tmp_path_factory.mktemp("stores"), until)
