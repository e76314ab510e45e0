"""The life of one stack: up, trained, asked, hurt, healed, taken down, nothing left.

The tests follow each other on one stack, as days would; each leaves it as it found it.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from runtime.objects import folder_of
from tests.end_to_end.conftest import Clone, eventually
from tests.infra.provider.pool_under_test import only

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("first_up")]

STACK = "one"
PROMPT = "def add_1(a, b):"
REQUESTS = 2000
CLIENTS = 16


@pytest.fixture(scope="module")
def first_up(clone: Clone) -> dict[str, Any]:
    """The first `atoll up`, in a committed clone."""
    clone.write_stack(STACK)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=clone.root, check=True)
    return clone.up(STACK)


@pytest.fixture(scope="module")
def outputs(clone: Clone, first_up: dict[str, Any]) -> dict[str, Any]:
    """The stack's outputs, as soon as it is up."""
    assert first_up["run"]
    return clone.outputs(STACK)


@pytest.fixture
def client(outputs: dict[str, Any]) -> Iterator[OpenAI]:
    """The official client, which is told not to try again."""
    with OpenAI(
        base_url=f"{outputs['endpoint_url']}/v1", api_key=outputs["api_key"], max_retries=0
    ) as client:
        yield client


def test_one_command_trains_publishes_serves_and_answers(
    clone: Clone, first_up: dict[str, Any], outputs: dict[str, Any]
) -> None:
    status = clone.status(STACK)

    assert first_up["is_changed"]
    assert first_up["answer"]["text"]
    assert first_up["endpoint_url"] == status["endpoint_url"] == outputs["endpoint_url"]
    assert outputs["price_per_hour_usd"] == 0
    assert set(outputs["store_urls"]) == {"bundle", "data", "checkpoints", "models", "control"}
    [run] = status["runs"]
    assert (run["state"], run["step"], run["epoch"]) == ("published", 20, 0)
    assert run["members"] == ["training-0", "training-1"]
    assert [(m["digest"], m["live"]) for m in status["models"]] == [
        (first_up["model"]["digest"], True)
    ]
    assert [r["state"] for r in status["replicas"]] == ["ready", "ready"]
    assert [g["state"] for g in status["gateways"]] == ["ready", "ready"]
    assert {n["pool"] for n in status["nodes"]} == {"replica", "gateway"}  # training is at rest


def test_the_work_tree_stays_clean(clone: Clone) -> None:
    changed = subprocess.run(
        ["git", "status", "--porcelain"],
        cwd=clone.root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()

    assert [line for line in changed if not line.startswith("A  ")] == []


def test_a_second_up_changes_nothing_and_starts_no_run(clone: Clone) -> None:
    before = clone.status(STACK)

    again = clone.up(STACK)

    after = clone.status(STACK)
    assert not again["is_changed"]
    assert again["run"] is None
    assert [n["pid"] for n in after["nodes"]] == [n["pid"] for n in before["nodes"]]
    assert after["runs"] == before["runs"]
    assert after["models"] == before["models"]


def test_the_official_client_completes_chats_and_streams(
    client: OpenAI, first_up: dict[str, Any]
) -> None:
    whole = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=20, temperature=0)
    pieces = [
        event.choices[0].text
        for event in client.completions.create(
            model="tiny", prompt=PROMPT, max_tokens=20, temperature=0, stream=True
        )
    ]
    chat = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": PROMPT}], max_tokens=5, seed=1
    )

    assert [model.id for model in client.models.list()] == ["tiny"]
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 20
    assert "".join(pieces) == whole.choices[0].text
    assert chat.choices[0].message.role == "assistant"
    assert first_up["model"]["digest"].startswith(str(whole.system_fingerprint))


def test_a_wrong_key_is_told_so_through_the_balancer(outputs: dict[str, Any]) -> None:
    with (
        OpenAI(
            base_url=f"{outputs['endpoint_url']}/v1", api_key="sk-other", max_retries=0
        ) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_the_guard_depends_on_all_and_all_depend_on_the_proof(clone: Clone) -> None:
    ours: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for resource in clone.state(STACK):
        ours[resource["type"].split(":")[-1]].append(resource)

    [guard], [proof] = ours["Guard"], ours["Proof"]
    between = [r for kind in ("Store", "Pool", "Balancer", "ApiKey") for r in ours[kind]]
    assert len(between) == 5 + 3 + 1 + 1
    assert {r["urn"] for r in between} <= set(guard["dependencies"])
    assert all(proof["urn"] in r["dependencies"] for r in (*between, guard))


def test_the_key_stands_nowhere_in_clear(clone: Clone, outputs: dict[str, Any]) -> None:
    key = outputs["api_key"].encode()
    exported = clone.pulumi("stack", "export", "--stack", STACK).out

    def holds(path: Path) -> bool:
        return path.is_file() and key in path.read_bytes()

    assert key.decode() not in exported
    assert [path for path in clone.home.rglob("*") if holds(path)] == []


async def _load(outputs: dict[str, Any], act: Any) -> tuple[int, list[Exception]]:
    """REQUESTS completions from CLIENTS at a time; `act` once a tenth is answered."""
    faults: list[Exception] = []
    numbers, done = iter(range(REQUESTS)), 0
    async with AsyncOpenAI(
        base_url=f"{outputs['endpoint_url']}/v1", api_key=outputs["api_key"], max_retries=0
    ) as client:

        async def work() -> None:
            nonlocal done
            for number in numbers:
                if number == REQUESTS // 10:
                    await asyncio.to_thread(act)
                try:
                    await client.completions.create(
                        model="tiny", prompt=PROMPT, max_tokens=8, seed=number
                    )
                    done += 1
                except openai.OpenAIError as fault:
                    faults.append(fault)

        await asyncio.gather(*(work() for _ in range(CLIENTS)))
    return done, faults


def test_a_replica_killed_under_load_fails_no_request(
    clone: Clone, outputs: dict[str, Any]
) -> None:
    victim = clone.status(STACK)["replicas"][0]

    done, faults = asyncio.run(_load(outputs, lambda: os.kill(victim["pid"], signal.SIGKILL)))

    assert faults == []
    assert done == REQUESTS
    eventually(
        lambda: [r["state"] for r in clone.status(STACK)["replicas"]] == ["ready", "ready"],
        "the replica is back",
    )


def test_a_gateway_killed_under_load_fails_no_request(
    clone: Clone, outputs: dict[str, Any]
) -> None:
    victim = clone.status(STACK)["gateways"][0]

    done, faults = asyncio.run(_load(outputs, lambda: os.kill(victim["pid"], signal.SIGKILL)))

    assert faults == []
    assert done == REQUESTS
    eventually(
        lambda: [g["state"] for g in clone.status(STACK)["gateways"]] == ["ready", "ready"],
        "the gateway is back",
    )


def test_a_plain_pulumi_up_heals_a_dead_pool_and_a_deleted_store(
    clone: Clone, outputs: dict[str, Any]
) -> None:
    kept = clone.status(STACK)["replicas"]
    keeper = only(f"{outputs['stack_id']}/gateway/keeper/")
    os.kill(keeper.pid, signal.SIGKILL)
    shutil.rmtree(folder_of(outputs["store_urls"]["data"]))

    preview = clone.pulumi("preview", "--stack", STACK)
    healed = clone.pulumi("up", "--yes", "--stack", STACK)

    assert "2 to create" in preview.out, preview.out
    assert healed.status == 0, healed.out
    assert "+ 2 created" in healed.out
    assert clone.status(STACK)["replicas"] == kept
    assert not clone.up(STACK)["is_changed"]


def test_a_changed_count_is_an_update_in_place(clone: Clone) -> None:
    before = clone.status(STACK)["replicas"]

    clone.write_stack(STACK, serving={"replicas": 3})
    grown = clone.pulumi("up", "--yes", "--stack", STACK)
    eventually(
        lambda: [r["state"] for r in clone.status(STACK)["replicas"]] == ["ready"] * 3,
        "three replicas are ready",
    )
    after = clone.status(STACK)["replicas"]
    clone.write_stack(STACK)
    shrunk = clone.pulumi("up", "--yes", "--stack", STACK)

    assert grown.status == shrunk.status == 0, grown.out + shrunk.out
    assert "replaced" not in grown.out + shrunk.out
    assert [r["pid"] for r in after[:2]] == [r["pid"] for r in before]
    assert len(clone.status(STACK)["replicas"]) == 2


def test_a_live_run_keeps_destroy_and_up_out_until_it_is_stopped(clone: Clone) -> None:
    clone.write_stack(STACK, training={"steps": 100_000})
    assert clone.pulumi("up", "--yes", "--stack", STACK).status == 0
    run = clone.atoll("runs", "start", "--stack", STACK)["run"]
    eventually(lambda: _step(clone, run) > 0, "the run makes steps")

    destroyed = clone.pulumi("destroy", "--yes", "--stack", STACK)
    upped = clone.pulumi("up", "--yes", "--stack", STACK)
    again = clone.run("atoll", "runs", "start", "--stack", STACK)

    for refused in (destroyed, upped):
        assert refused.status != 0
        assert f"run {run} is live in pool training" in refused.out
        assert f"atoll runs stop {run} --stack {STACK}" in refused.out
    assert again.status == 1
    assert f"run {run} is live" in again.said
    assert _step(clone, run) > 0  # and nothing has happened to it
    stopped = clone.atoll("runs", "stop", run, "--stack", STACK)
    assert (stopped["state"], stopped["is_changed"]) == ("cancelled", True)
    eventually(lambda: not _training_nodes(clone), "training nodes have left")


def test_a_node_killed_in_training_costs_no_hand_and_the_new_model_answers(
    clone: Clone, client: OpenAI
) -> None:
    clone.write_stack(STACK, training={"steps": 600, "seed": 7})
    assert clone.pulumi("up", "--yes", "--stack", STACK).status == 0
    before = client.completions.create(model="tiny", prompt=PROMPT).system_fingerprint
    run = clone.atoll("runs", "start", "--stack", STACK)["run"]
    eventually(lambda: _step(clone, run) >= 10, "there are steps")

    [victim] = [n for n in _training_nodes(clone) if n["node"] == "training-0"]
    os.killpg(victim["pid"], signal.SIGKILL)
    eventually(
        lambda: clone.status(STACK)["runs"][0]["state"] not in ("running", "claimed"),
        "the run has ended",
    )

    detail = clone.atoll("runs", "show", run, "--stack", STACK)
    assert detail["state"] == "published", detail["why"]
    assert detail["epochs"][1]["members"] == ["training-1"]
    assert detail["steps_lost"] == 0
    steps = [line["step"] for line in detail["metrics"] if "loss" in line]
    assert steps == list(range(1, 601))  # each counts once
    eventually(
        lambda: client.completions.create(model="tiny", prompt=PROMPT).system_fingerprint != before,
        "the new version answers",
    )
    eventually(lambda: not _training_nodes(clone), "training nodes have left")


def test_destroy_typed_by_hand_proves_that_nothing_is_left(
    clone: Clone, outputs: dict[str, Any]
) -> None:
    planted = Path(tempfile.gettempdir()) / f"atoll-{outputs['stack_id']}.tmp"
    planted.write_text("left by somebody")

    refused = clone.pulumi("destroy", "--yes", "--stack", STACK)
    listed = clone.run("atoll", "sweep", "--stack", STACK, "--json")
    planted.unlink()
    destroyed = clone.pulumi("destroy", "--yes", "--stack", STACK)
    swept = clone.run("atoll", "sweep", "--stack", STACK, "--json")

    assert refused.status != 0
    assert f"1 left of stack {STACK}" in refused.out, refused.out[-3000:]
    assert str(planted) in refused.out
    assert listed.status == 1
    assert str(planted) in [item["where"] for item in listed.answer["left"]]
    assert destroyed.status == 0, destroyed.out
    assert "0 left" in destroyed.out
    assert (swept.status, swept.answer["left"]) == (0, [])
    assert clone.processes() == []
    assert list((clone.home / "stacks").iterdir()) == []
    clone.stacks.remove(STACK)


def _step(clone: Clone, run: str) -> int:
    shown = clone.run("atoll", "runs", "show", run, "--stack", STACK, "--json")
    return int(shown.answer["step"] or 0) if shown.status == 0 else 0


def _training_nodes(clone: Clone) -> list[dict[str, Any]]:
    return [n for n in clone.status(STACK)["nodes"] if n["pool"] == "training"]
