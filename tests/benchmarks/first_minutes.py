"""The first minutes with the kit: `make up`, what comes of it, and `make down`.

In a clone of HEAD that is set up (an engine must be at hand, or the first repeat waits for it), on
the default stack: three runs with three seeds, then faults under load, a schedule, and the exported
model in transformers.
"""

import asyncio
import math
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import numpy as np
from openai import AsyncOpenAI, OpenAI, OpenAIError

from infra.clouds.local.processes import environ, pids, read_stat
from runtime.coordination.log import PoolLog
from runtime.model import export
from runtime.node_spec import Schedule
from runtime.objects import open_store
from runtime.registry import fetch
from runtime.serve.engine.batch import Batch
from runtime.serve.engine.protocol import Piece, Start
from runtime.serve.engine.runner import Runner
from runtime.serve.engine.scheduler import Scheduler
from runtime.train.data import DataManifest, open_data
from runtime.train.evaluate import LAST_SAMPLES
from tests.benchmarks.bigram import bigram
from tests.benchmarks.clone import BenchmarkClone, Made
from tests.benchmarks.figures import Figure, Goal, figure, rival, run
from tests.infra.provider.pool_under_test import PoolUnderTest

SEEDS = (0, 1, 2)
REQUESTS = 2000
CLIENTS = 16
MODEL = "atoll-code"
PROMPTS = (
    "def read_lines(path):\n",
    "class Point:\n    def __init__(self",
    "import os\n",
    "    for name in names:\n",
    "# Copyright",
)
NEW_TOKENS = 64


def measure(is_quick: bool) -> Sequence[Figure]:
    """All figures; a quick run has one seed and fewer requests."""
    seeds = SEEDS[:1] if is_quick else SEEDS
    requests = REQUESTS // 10 if is_quick else REQUESTS
    ups: list[Made] = []
    downs: list[Made] = []
    alive: list[float] = []
    ours: list[float] = []
    theirs: list[float] = []
    served: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        clone = BenchmarkClone.of_head(Path(folder))
        clone.make("setup")
        for seed in seeds:
            clone.settings(seed=seed)
            ups.append(clone.make("up"))
            status = clone.atoll("status")
            ours.append(status["models"][0]["metrics"]["bits_per_byte"])
            theirs.append(bigram_bits_per_byte(clone))
            if seed == seeds[-1]:
                served = [*serving(clone, requests), greedy(clone)]
            downs.append(clone.make("down"))
            downs[-1].first(r"stack local: 0 left")
            alive.append(float(len(left_running(clone.root))))
    return [*minutes(ups, downs, alive), quality(ours, theirs), *served, due_runs()]


def minutes(ups: Sequence[Made], downs: Sequence[Made], alive: Sequence[float]) -> list[Figure]:
    """From `make up` to an answer, and back."""
    ready = [up.first(r"run \S+ claimed") for up in ups]
    loss = [up.first(r"^step \d+/\d+  loss") for up in ups]
    # The prompt is written with the first piece of the answer.
    answer = [up.first(r"^def read_lines\(path\):") for up in ups]
    return [
        figure("`make up`: resources ready after", "s", ready, Goal(below=15)),
        figure("`make up`: first loss line after", "s", loss, Goal(below=60)),
        figure("`make up`: first token through the balancer after", "s", answer, Goal(below=150)),
        figure("`make up`: whole", "s", [up.seconds for up in ups]),
        figure("`make down`, with `0 left`", "s", [d.seconds for d in downs], Goal(below=10)),
        figure("processes of the stack alive afterwards", "", alive, Goal(exactly=0)),
    ]


def quality(ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """The default run against the bigram over the same tokens, each seed below it."""
    best = min(theirs)
    spoken = rival("interpolated bigram", "", best, float(np.median(ours)))
    told = ", ".join(f"{value:.3f}" for value in ours)
    return figure(
        f"validation bits per byte of the default run (seeds: {told})",
        "bit",
        ours,
        Goal(below=best),
        [spoken],
    )


def bigram_bits_per_byte(clone: BenchmarkClone) -> float:
    """Of the bigram, trained on all training tokens, on just what the run was validated on."""
    store = open_store(clone.outputs()["store_urls"]["data"])
    [key] = [info.key for info in store.list() if info.key.endswith("/manifest.json")]
    manifest = DataManifest.model_validate_json(store.get(key))
    with tempfile.TemporaryDirectory() as folder:
        data = open_data(store, manifest.digest, Path(folder), sequence_tokens=128)
        count = len(data.validation)
        assert count <= LAST_SAMPLES, "all of it was validated on"
        seen = np.asarray(data.validation.tokens)[: count * 128 + 1]
        found = bigram(np.asarray(data.train.tokens), seen, data.token_bytes.numpy())
    assert math.isfinite(found.bits_per_byte)
    return found.bits_per_byte


def left_running(root: Path) -> list[int]:
    """Processes that have the clone in their environment or command line."""
    home = str(root / ".atoll")
    return [
        pid
        for pid in pids()
        if (stat := read_stat(pid)) is not None
        and stat.state not in "ZX"
        and environ(pid).get("ATOLL_HOME") == home
    ]


def serving(clone: BenchmarkClone, requests: int) -> list[Figure]:
    """The official client through the balancer, also while processes are killed."""
    outputs = clone.outputs()
    figures = [official_client(outputs["endpoint_url"], outputs["api_key"])]
    for pool in ("replicas", "gateways"):
        victim = clone.atoll("status")[pool][0]["pid"]
        failed = asyncio.run(
            load(outputs["endpoint_url"], outputs["api_key"], requests, int(victim))
        )
        name = f"failed of {requests} requests, one of 2 {pool} killed with -9"
        figures.append(figure(name, "", [float(failed)], Goal(exactly=0)))
        while {node["state"] for node in clone.atoll("status")[pool]} != {"ready"}:
            time.sleep(0.5)
    return figures


def official_client(endpoint_url: str, api_key: str) -> Figure:
    """Completions, chat and streaming; each that fails counts."""
    failed = 0
    with OpenAI(base_url=f"{endpoint_url}/v1", api_key=api_key, max_retries=0) as client:
        for prompt in PROMPTS:
            try:
                whole = client.completions.create(
                    model=MODEL, prompt=prompt, max_tokens=16, temperature=0
                )
                events = client.completions.create(
                    model=MODEL, prompt=prompt, max_tokens=16, temperature=0, stream=True
                )
                failed += "".join(e.choices[0].text for e in events) != whole.choices[0].text
                client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": prompt}], max_tokens=16
                )
            except OpenAIError:
                failed += 1
    name = "failed of 15 requests of the official client, `max_retries=0`"
    return figure(name, "", [float(failed)], Goal(exactly=0))


async def load(endpoint_url: str, api_key: str, requests: int, victim: int) -> int:
    """How many of so many requests fail when a process is killed after a tenth of them."""
    failed = 0
    numbers = iter(range(requests))
    async with AsyncOpenAI(base_url=f"{endpoint_url}/v1", api_key=api_key, max_retries=0) as client:

        async def work() -> None:
            nonlocal failed
            for number in numbers:
                if number == requests // 10:
                    os.kill(victim, signal.SIGKILL)
                try:
                    await client.completions.create(
                        model=MODEL, prompt=PROMPTS[number % len(PROMPTS)], max_tokens=8
                    )
                except OpenAIError:
                    failed += 1

        await asyncio.gather(*(work() for _ in range(CLIENTS)))
    return failed


def greedy(clone: BenchmarkClone) -> Figure:
    """Tokens that the kit's engine and transformers choose alike from the exported folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    outputs = clone.outputs()
    digest = clone.atoll("models", "list")["models"][0]["digest"]
    with tempfile.TemporaryDirectory() as folder:
        models = open_store(outputs["store_urls"]["models"])
        path = fetch(models, MODEL, digest, Path(folder) / "model")
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path)
        equal = 0
        for prompt in PROMPTS:
            tokens = tokenizer(prompt)["input_ids"]
            made = model.generate(
                torch.tensor([tokens]),
                do_sample=False,
                max_new_tokens=NEW_TOKENS,
                eos_token_id=None,  # the end of a text is a token like others here
            )[0, len(tokens) :].tolist()
            equal += sum(a == b for a, b in zip(made, own_greedy(path, tokens), strict=True))
    total = NEW_TOKENS * len(PROMPTS)
    name = f"greedy tokens of {total} equal to those of transformers {version('transformers')}"
    return figure(name, "", [float(equal)], Goal(exactly=total))


def own_greedy(folder: Path, prompt: list[int]) -> list[int]:
    """By the serving engine itself, that goes on after an end of text too."""
    decoder, shape, tokenizer = export.load(folder)
    batch = Batch(
        Runner(decoder, shape, slots=1),
        Scheduler(slots=1, queue=0),
        lambda tokens: str(tokenizer.decode(list(tokens))),
        frozenset(),
        shape.context,
    )
    ask = Start(
        id="ask", prompt=tuple(prompt), tokens_max=NEW_TOKENS, temperature=0, top_p=1, seed=0
    )
    batch.start(ask)
    made: list[int] = []
    while len(batch):
        for piece in batch.step():
            assert isinstance(piece, Piece)
            made += piece.tokens
    return made


def due_runs() -> Figure:
    """Runs that a due time in the next minute starts, with two keepers of one log."""
    tick = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    due = Schedule(minute=tick.minute, hour=tick.hour)
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        pools = [
            PoolUnderTest(
                Path(folder) / str(number),
                secrets.token_hex(4),
                role="training",
                size=0,
                schedule=due,
                control_home=Path(folder),
            )
            for number in range(2)
        ]
        try:
            for pool in pools:
                pool.start()
            for pool in pools:
                pool.until_target(pool.size_max)
            runs = PoolLog(pools[0].control, "training", "benchmark").state().runs
        finally:
            for pool in pools:
                pool.stop()
    name = "runs started by a due time in the next minute, two keepers racing"
    return figure(name, "", [float(len(runs))], Goal(exactly=1))


if __name__ == "__main__":
    run("first_minutes", measure)
