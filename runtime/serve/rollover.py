"""Keep the newest sound model version loaded, without dropping a request.

A newer version gets an engine of its own, proves itself there, and takes the new requests; the old
engine ends when its last request has. A version that can't be fetched, verified or loaded is never
served: the one before it goes on, and presence says why.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.coordination.log import LiveRecord, live_log
from runtime.errors import Corrupt, Missing, Refused, Unavailable
from runtime.limits import ENGINE_AGAIN_S_MAX, MODEL_AGAIN_S, POLL_MODEL_S
from runtime.node_spec import ServeSpec
from runtime.objects import Store
from runtime.registry import fetch
from runtime.serve.engine.child import Engine, start_engine
from runtime.serve.service import FINGERPRINT_CHARS, Service, Version
from runtime.serve.version import read_version

log = logging.getLogger(__name__)

NO_MODEL = "no live model"


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why a version is not served, and until when it is not tried again."""

    why: str
    until: float


class Rollover:
    """Watches the live log and moves the service to what it names."""

    def __init__(
        self,
        spec: ServeSpec,
        service: Service,
        control: Store,
        models: Store,
        folder: Path,
        say: Callable[[], None],
        stderr: int | None = None,  # of its engines
    ) -> None:
        self._spec = spec
        self._service = service
        self._log = live_log(control, spec.model_name)
        self._models = models
        self._folder = folder
        self._say = say
        self._stderr = stderr
        self._refused: dict[str, Refusal] = {}
        self._engines: set[Engine] = set()
        self._spare: Engine | None = None  # imports torch while a model is looked for
        self._retiring: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._deaths = 0
        self._start_after = 0.0

    async def keep(self) -> None:
        """Go on until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._look()
            except Unavailable as fault:
                log.warning("%s", fault)
            self._say()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_MODEL_S):
                    await self._wake.wait()

    async def close(self) -> None:
        """Stop all engines; what is still open on them is cut."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*(engine.stop() for engine in self._engines))

    async def _look(self) -> None:
        serving = self._service.version
        if serving is None and self._service.clock() < self._start_after:
            return
        if serving is None and self._spare is None:
            self._spare = await self._start_engine()
        records = await asyncio.to_thread(self._log.read)
        digest = self._wanted(records)
        if digest is not None and (serving is None or serving.digest != digest):
            await self._take(digest)
        self._service.why = self._why(records)

    def _wanted(self, records: Sequence[LiveRecord]) -> str | None:
        """The digest of the newest record that was not refused lately."""
        now = self._service.clock()
        for record in reversed(records):
            refusal = self._refused.get(record.digest)
            if refusal is None or refusal.until <= now:
                return record.digest
        return None

    def _why(self, records: Sequence[LiveRecord]) -> str:
        """What presence says beside the state."""
        if not records:
            return NO_MODEL
        refusal = self._refused.get(records[-1].digest)
        if refusal is None:
            return ""
        return f"model version {records[-1].digest[:FINGERPRINT_CHARS]} refused: {refusal.why}"

    async def _take(self, digest: str) -> None:
        """Fetch, verify, load, prove, then switch; or remember why not."""
        engine, self._spare = self._spare or await self._start_engine(), None
        try:
            version = await self._load(engine, digest)
        except (Corrupt, Missing, Refused, TimeoutError) as fault:
            self._refuse(digest, str(fault) or "loading took too long")
            await self._stop(engine)
        except Unavailable as fault:
            await self._stop(engine)
            if engine.died is None:
                raise  # the store did not answer: no fault of the version
            self._refuse(digest, str(fault))
        else:
            old = self._service.version
            self._service.proved(version)
            self._refused.pop(digest, None)
            log.info("model version %s answers", digest)
            if old is not None:
                task = asyncio.create_task(self._retire(old))
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)

    async def _load(self, engine: Engine, digest: str) -> Version:
        folder = await asyncio.to_thread(
            fetch, self._models, self._spec.model_name, digest, self._folder / digest
        )
        loaded = await engine.load(folder, self._spec.slots, self._spec.queue)
        return await asyncio.to_thread(read_version, folder, digest, loaded, engine)

    def _refuse(self, digest: str, why: str) -> None:
        log.error("model version %s refused: %s", digest, why)
        until = self._service.clock() + MODEL_AGAIN_S
        self._refused[digest] = Refusal(why=why, until=until)

    async def _retire(self, old: Version) -> None:
        """Let the old version finish what it has begun."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._spec.drain_s):
                await self._service.idle(old)
        await self._stop(old.engine)
        await asyncio.to_thread(shutil.rmtree, self._folder / old.digest, ignore_errors=True)

    async def _start_engine(self) -> Engine:
        engine = await start_engine(self._spec.threads, self._on_death, self._stderr)
        self._engines.add(engine)
        return engine

    async def _stop(self, engine: Engine) -> None:
        self._engines.discard(engine)
        await engine.stop()

    def _on_death(self, engine: Engine, why: str) -> None:
        """Open requests have been told by the engine; see that a new one is started."""
        self._engines.discard(engine)
        if engine is self._spare:
            self._spare = None
        self._service.lost(engine, why)
        self._say()
        # At once the first time; later ever more slowly, since an engine that keeps dying would
        # keep the machine from anything else.
        pause_s = min(2.0**self._deaths - 1, ENGINE_AGAIN_S_MAX)
        self._deaths += 1
        self._start_after = self._service.clock() + pause_s
        self._wake.set()
