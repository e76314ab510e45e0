"""What clients see while parts die, change and leave: nothing, or an honest error."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import openai
import pytest

if TYPE_CHECKING:
    from tests.runtime.serve.conftest import Rig, Running

pytestmark = pytest.mark.slow

MODEL = "tiny"
PROMPTS = [f"def f{i}(a, b):" for i in range(8)]


async def load(
    client: openai.AsyncOpenAI, requests: int, act: Callable[[], object], at: int
) -> tuple[list[openai.types.Completion], list[Exception]]:
    """Keep eight requests going; do something once `at` are answered."""
    answers: list[openai.types.Completion] = []
    faults: list[Exception] = []
    numbers = iter(range(requests))

    async def work() -> None:
        for number in numbers:
            if number == at:
                await asyncio.to_thread(act)
            try:
                answers.append(
                    await client.completions.create(
                        model=MODEL,
                        prompt=PROMPTS[number % len(PROMPTS)],
                        max_tokens=20,
                        temperature=0,
                        user=PROMPTS[number % len(PROMPTS)],
                    )
                )
            except openai.OpenAIError as fault:
                faults.append(fault)

    await asyncio.gather(*(work() for _ in range(8)))
    return answers, faults


def stack(rig: Rig, replicas: int = 2) -> tuple[list[Running], Running]:
    """Replicas behind one gateway, all ready."""
    rig.publish(seed=1)
    running = [rig.replica(index) for index in range(replicas)]
    gateway = rig.gateway(replicas=replicas)
    for replica in running:
        replica.wait_ready()
    gateway.wait_ready()
    rig.eventually(
        lambda: gateway.metric("atoll_gateway_replicas_ready") == replicas, "all are known"
    )
    return running, gateway


def test_a_replica_without_a_model_says_so_and_starts_by_itself(rig: Rig) -> None:
    replica = rig.replica(0)
    gateway = rig.gateway()
    rig.eventually(lambda: replica.status("/livez") == 200, "it listens")
    rig.eventually(lambda: gateway.status("/livez") == 200, "it listens")

    presence = rig.presence("replica-0")
    before = (replica.status("/readyz"), gateway.status("/readyz"))
    with pytest.raises(openai.InternalServerError) as raised:
        rig.client(gateway).models.list()
    rig.publish(seed=1)
    gateway.wait_ready()

    assert (presence.state, presence.why) == ("warming", "no live model")
    assert before == (503, 503)
    assert raised.value.status_code == 503
    assert "retry-after" in raised.value.response.headers
    assert replica.is_ready
    rig.eventually(lambda: rig.presence("replica-0").state == "ready", "presence says so")


def test_a_replica_killed_under_load_fails_no_request_and_may_come_back(rig: Rig) -> None:
    replicas, gateway = stack(rig)

    answers, faults = asyncio.run(load(rig.async_client(gateway), 300, replicas[0].kill, at=80))
    again = rig.replica(0)
    again.wait_ready()

    assert faults == []
    assert len(answers) == 300
    rig.eventually(lambda: gateway.metric("atoll_gateway_replicas_ready") == 2, "it is found again")


def test_an_engine_killed_under_load_fails_no_request_and_is_started_again(rig: Rig) -> None:
    replicas, gateway = stack(rig)
    (engine,) = replicas[0].engine_pids()

    def kill() -> None:
        os.kill(engine, signal.SIGKILL)

    answers, faults = asyncio.run(load(rig.async_client(gateway), 300, kill, at=80))

    assert faults == []
    assert len(answers) == 300
    replicas[0].wait_ready()
    assert replicas[0].engine_pids() != [engine]


def test_a_frozen_replica_fails_no_request(rig: Rig) -> None:
    replicas, gateway = stack(rig)

    answers, faults = asyncio.run(
        load(rig.async_client(gateway), 200, lambda: replicas[0].kill(signal.SIGSTOP), at=50)
    )

    assert faults == []
    assert len(answers) == 200


def test_a_newer_version_takes_over_under_load_and_every_answer_is_of_one(rig: Rig) -> None:
    replicas, gateway = stack(rig)
    client = rig.async_client(gateway)

    answers, faults = asyncio.run(load(client, 1200, lambda: rig.publish(seed=2), at=50))
    rig.eventually(
        lambda: all(len(replica.engine_pids()) == 1 for replica in replicas),
        "the old engines are gone",
    )
    # A client's connections belong to the loop that opened them.
    again = rig.async_client(gateway)
    later, later_faults = asyncio.run(load(again, 16, lambda: None, at=0))

    assert faults + later_faults == []
    old = {answer.system_fingerprint for answer in answers[:20]}
    new = {answer.system_fingerprint for answer in later}
    assert len(old) == len(new) == 1
    assert old != new
    assert {answer.system_fingerprint for answer in answers} <= old | new
    texts: dict[str | None, Counter[str]] = {}
    for answer in answers + later:
        texts.setdefault(answer.system_fingerprint, Counter())[answer.choices[0].text] += 1
    assert all(len(seen) <= len(PROMPTS) for seen in texts.values())


def test_a_corrupt_version_is_never_served(rig: Rig) -> None:
    replicas, gateway = stack(rig, replicas=1)
    good = rig.presence("replica-0").model

    bad = publish_corrupt(rig)
    rig.eventually(lambda: "refused" in rig.presence("replica-0").why, "presence says why")
    answer = rig.client(gateway).completions.create(model=MODEL, prompt="x", max_tokens=3)

    presence = rig.presence("replica-0")
    assert (presence.state, presence.model) == ("ready", good)
    assert bad[:16] in presence.why
    assert answer.system_fingerprint is not None
    assert good is not None
    assert good.startswith(answer.system_fingerprint)
    assert len(replicas[0].engine_pids()) == 1


def publish_corrupt(rig: Rig) -> str:
    """A version with one flipped byte, live before anybody could look at the sound one."""
    digest = rig.publish(seed=3)
    key = f"{MODEL}/{digest}/model.safetensors"
    weights = bytearray(rig.models.get(key))
    weights[-1] ^= 1
    rig.models.put(key, bytes(weights))
    return digest


def test_a_started_stream_whose_replica_dies_ends_with_an_error_and_no_done(rig: Rig) -> None:
    (replica,), gateway = stack(rig, replicas=1)
    body = {"model": MODEL, "prompt": "x", "max_tokens": 4000, "temperature": 0, "stream": True}
    lines: list[str] = []

    with httpx.stream(
        "POST",
        f"{gateway.url}/v1/completions",
        json=body,
        headers={"Authorization": "Bearer a key for tests"},
        timeout=60,
        trust_env=False,
    ) as stream:
        for line in stream.iter_lines():
            if len(lines) == 10:
                replica.kill()
            lines.append(line)

    events = [line for line in lines if line.startswith("data: ")]
    assert events[-1].startswith('data: {"error"')
    assert "data: [DONE]" not in events
    assert len(events) < 4000


def test_an_open_stream_is_finished_before_a_replica_leaves(rig: Rig) -> None:
    (replica,), _ = stack(rig, replicas=1)
    direct = rig.client(replica)
    stream = direct.completions.create(
        model=MODEL, prompt="x", max_tokens=4000, temperature=0, stream=True
    )
    pieces = [next(iter(stream))]

    replica.kill(signal.SIGTERM)
    rig.eventually(lambda: replica.status("/readyz") == 503, "it is not ready any more")
    still_served = direct.completions.create(model=MODEL, prompt="x", max_tokens=2)
    pieces += list(stream)

    assert still_served.choices[0].finish_reason == "length"
    assert pieces[-1].choices[0].finish_reason == "length"
    assert replica.wait() == 0
    assert rig.presence("replica-0").state == "stopped"


def test_a_draining_replica_refuses_new_requests_and_cuts_what_takes_too_long(rig: Rig) -> None:
    rig.publish(seed=1)
    replica = rig.replica(0, slots=1, drain_s=0.5).wait_ready()
    direct = rig.client(replica)
    streams = [
        direct.completions.create(
            model=MODEL, prompt=[5], max_tokens=4000, temperature=0, stream=True
        )
        for _ in range(20)
    ]

    replica.kill(signal.SIGTERM)
    refusals = refusals_until_gone(direct)
    with pytest.raises(openai.APIError):
        list(streams[-1])

    assert refusals <= {503}
    assert replica.wait() == 0


def refusals_until_gone(client: openai.OpenAI) -> set[int]:
    """Statuses of refusals while a server leaves."""
    refusals = set()
    while True:
        try:
            client.models.list()
        except openai.APIStatusError as refused:
            refusals.add(refused.status_code)
        except openai.APIConnectionError:
            return refusals


def test_a_gateway_leaves_without_failing_a_request(rig: Rig) -> None:
    _, gateway = stack(rig, replicas=1)
    stream = rig.client(gateway).completions.create(
        model=MODEL, prompt="x", max_tokens=4000, temperature=0, stream=True
    )
    first = next(iter(stream))

    gateway.kill(signal.SIGTERM)
    rig.eventually(lambda: gateway.status("/readyz") == 503, "it is not ready any more")
    rest = list(stream)

    assert first.choices
    assert rest[-1].choices[0].finish_reason == "length"
    assert gateway.wait() == 0


def test_no_engine_outlives_its_replica(rig: Rig) -> None:
    (replica,), gateway = stack(rig, replicas=1)
    (engine,) = replica.engine_pids()

    replica.kill()

    rig.eventually(lambda: not is_running(engine), "the engine ended")
    begun = time.monotonic()
    with pytest.raises(openai.InternalServerError):
        rig.client(gateway).models.list()
    assert time.monotonic() - begun < 30


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_taken_port_is_said_and_ends_the_node(rig: Rig) -> None:
    rig.replica(0)
    rig.eventually(lambda: rig.running[0].status("/livez") == 200, "the first one listens")

    second = rig.replica(0)

    assert second.wait() == 1
    assert "is the port taken" in second.log.read_text()
