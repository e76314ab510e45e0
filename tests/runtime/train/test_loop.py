"""The loop on real data, strategies and stores: the same weights however it got there."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim import AdamW

from runtime import checkpoint
from runtime.checkpoint import Commit, Recipe
from runtime.checkpoint.interval import Cadence
from runtime.model import export
from runtime.model.decoder import Decoder
from runtime.node_spec import TrainSpec
from runtime.objects import Store, file_url, open_store
from runtime.train.alike import are_finite
from runtime.train.committer import Committer, Stages
from runtime.train.data import Data, Samples, open_data, prepare
from runtime.train.loop import Clock, First, Training
from runtime.train.metrics import Lines, Metrics
from runtime.train.optimizer import build_optimizer
from runtime.train.order import sample_of
from runtime.train.protocol import EVENTS, Done, Event, Failed, Paused, Stepped
from runtime.train.state import copy_in, set_step, tensors_of
from runtime.train.strategy import Strategy, words_max
from runtime.train.text import read_corpus
from runtime.train.worker import shape_of
from tests.doubles.writer import WriterHere
from tests.runtime.train.group import Group, at_once
from tests.tiny import tiny_spec, write_texts

pytestmark = pytest.mark.usefixtures("one_thread")

AT = datetime(2026, 1, 2, tzinfo=UTC)
RUN = "run-1"
STEPS = 12
HALF = 6
LOOKS = 3  # at the clock in a step: as it begins, before the collective, at its end


@dataclass(frozen=True)
class Asked(Samples):
    """Samples that note which were asked for."""

    asked: list[int]

    def batch(self, samples: list[int]) -> tuple[Tensor, Tensor]:
        """As ever."""
        self.asked.extend(samples)
        return super().batch(samples)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Data of the tiny runs, made once."""
    folder = tmp_path_factory.mktemp("data")
    store = open_store(file_url(folder / "store"))
    spec = build_spec()
    corpus = read_corpus(str(write_texts(folder / "texts")))
    digest = prepare(store, corpus, spec.model.vocabulary, "attempt")
    return open_data(store, digest, folder / "here", spec.sequence_tokens)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Committers and uploaders end with their epoch."""
    yield
    assert not {"committer", "metrics"} & {thread.name for thread in threading.enumerate()}


def build_spec(**changes: object) -> TrainSpec:
    """Some steps; no validation and no commit but those of the end."""
    quiet = {"steps": STEPS, "checkpoint_every_steps": 1000, "validate_every_steps": 1000}
    return tiny_spec(Path("unused"), **quiet | changes)


class Settled(Committer):
    """Writes each before the next step: steps of these tests take less than that."""

    def start(self, step: int, samples: int, tensors: Mapping[str, Tensor]) -> None:
        """Done when it returns."""
        super().start(step, samples, tensors)
        self.wait()


class Full(Settled):
    """Asks for a pause, and has had its fill of waiting after some looks."""

    looks = 0

    @property
    def is_full(self) -> bool:
        """Three looks long."""
        return self.looks < 3

    def wait_room(self, timeout_s: float) -> None:
        """Count."""
        self.looks += 1


@dataclass(kw_only=True)
class Member:
    """A training member with all it needs, at a step of a run."""

    spec: TrainSpec
    data: Data
    strategy: Callable[[Decoder], Strategy]
    checkpoints: Store
    folder: Path
    epoch: int = 0
    resume_steps: tuple[int, ...] = (0, HALF)
    pause_at: int | None = None  # the step after which all shall stop; None never
    commits: type[Settled] = Settled
    tick_s: float = 1.0  # so far has its clock moved whenever it is asked
    said: list[Event] = field(default_factory=list)
    say: Callable[[Event], None] = field(init=False)
    model: Decoder = field(init=False)
    optimizer: AdamW = field(init=False)
    committer: Settled = field(init=False)

    def __post_init__(self) -> None:
        self.say = self.said.append
        self.model = Decoder(shape_of(self.spec))
        self.model.init(torch.Generator().manual_seed(self.spec.seed))
        self.optimizer = build_optimizer(self.model, self.spec)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Weights and moments."""
        return tensors_of(self.model, self.optimizer)

    def resume(self, commit: Commit) -> None:
        """Take the state of a commit, as a worker does."""
        manifest = checkpoint.read_manifest(self.checkpoints, RUN, commit)
        copy_in(self.tensors, checkpoint.read(self.checkpoints, manifest))
        set_step(self.optimizer, commit.step)

    def train(self, step: int = 0) -> Failed | Paused | Done:
        """From a step on to whatever ends it."""
        strategy = self.strategy(self.model)
        lines, first = Lines(self.checkpoints, RUN, self.epoch), None
        if strategy.rank == 0:
            lines = Metrics(self.checkpoints, RUN, self.epoch, self.folder / f"b{self.epoch}")
            first = self._first(lines)
        ticks = count()
        training = Training(
            spec=self.spec,
            epoch=self.epoch,
            model=self.model,
            optimizer=self.optimizer,
            data=self.data,
            strategy=strategy,
            step=step,
            clock=Clock(now=lambda: AT, seconds=lambda: self.tick_s * next(ticks)),
            say=self.say,
            shall_pause=lambda: training.step + 1 == self.pause_at,
            save_s=lambda: 0.0,
            lines=lines,
            first=first,
        )
        try:
            return training.run()
        finally:
            if first is not None:
                first.commits.wait()
            strategy.close()
            lines.close()

    def _first(self, metrics: Metrics) -> First:
        self.committer = self.commits(
            self.checkpoints,
            RUN,
            self.resume_steps[: self.epoch + 1],
            recipe=Recipe.of(self.spec, "d", "t"),
            writer=WriterHere(self.checkpoints),
            stages=Stages(),
            clock=lambda: AT,
            seconds=time.monotonic,
            nonce=lambda: "n",
            note=pytest.fail,
            before=metrics.upload,
            cadence=Cadence(every_steps=self.spec.checkpoint_every_steps, nodes=1),
            unsaved_s_max=self.spec.unsaved_s_max,
            grace_s=0.0,
        )
        return First(commits=self.committer, export_to=self.folder / "model")


Build = Callable[..., list[Member]]


@pytest.fixture
def build(prepared: Data, tmp_path: Path) -> Build:
    """Makes the members of an epoch, whose own store and group bear a name."""

    def build(world_size: int = 1, name: str = "one", **changes: object) -> list[Member]:
        group, spec = Group(), build_spec(**changes)

        def joins(rank: int) -> Callable[[Decoder], Strategy]:
            return lambda model: group.join(model, rank, world_size)

        return [
            Member(
                spec=spec,
                data=prepared,
                strategy=joins(rank),
                checkpoints=open_store(file_url(tmp_path / name / "checkpoints")),
                folder=tmp_path / name / str(rank),
            )
            for rank in range(world_size)
        ]

    return build


def train(members: list[Member], step: int = 0) -> list[Failed | Paused | Done]:
    """All members to the end, at once."""
    return at_once(len(members), lambda rank: members[rank].train(step))


def lines(member: Member) -> list[dict[str, float]]:
    """Its figures, as they stand in the store."""
    content = member.checkpoints.get(f"{RUN}/metrics/{member.epoch}.jsonl").decode()
    return [json.loads(line) for line in content.splitlines()]


def losses(member: Member) -> list[float]:
    return [line["loss"] for line in lines(member) if "loss" in line]


def distance(one: Member, other: Member) -> float:
    """Of the weights, as a part of their size."""
    mine, others = (
        torch.cat([parameter.detach().flatten() for parameter in member.model.parameters()])
        for member in (one, other)
    )
    return float((mine - others).norm() / others.norm())


def equal(one: Member, other: Member) -> bool:
    """To the last bit."""
    return all(torch.equal(value, other.tensors[name]) for name, value in one.tensors.items())


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_never_stopped(
    build: Build, world_size: int
) -> None:
    whole = build(world_size, "whole")
    train(whole)
    stopped, resumed = (build(world_size, "halves", checkpoint_every_steps=HALF) for _ in range(2))
    stopped[0].pause_at = HALF
    assert train(stopped) == [Paused(epoch=0, step=HALF)] * world_size

    for member in resumed:
        member.epoch = 1
        member.resume(Commit(0, HALF))
    endings = train(resumed, HALF)

    assert all(isinstance(ending, Done) for ending in endings)
    assert all(equal(member, whole[0]) for member in (*resumed, *whole))
    assert losses(stopped[0]) + losses(resumed[0]) == losses(whole[0])


def test_any_number_of_members_learns_the_same_and_members_do_not_drift_apart(
    build: Build,
) -> None:
    alone = build(1, "alone")
    train(alone)

    for world_size in (2, 3, 4):  # 4 does not divide the batch of 6
        members = build(world_size, f"{world_size} members")
        train(members)

        assert all(equal(member, members[0]) for member in members)
        torch.testing.assert_close(losses(members[0]), losses(alone[0]), rtol=1e-4, atol=0)
        assert distance(members[0], alone[0]) < 1e-2
    assert losses(alone[0])[-1] < losses(alone[0])[0] - 0.5


def test_a_run_goes_on_from_its_checkpoints_on_any_number_of_members(
    build: Build, prepared: Data
) -> None:
    alone = build(1, "alone")
    train(alone)
    asked: list[int] = []
    found: list[float] = []

    for epoch, (world_size, start, end) in enumerate([(1, 0, 4), (3, 4, 8), (2, 8, STEPS)]):
        members = build(world_size, "sizes", checkpoint_every_steps=4)
        for member in members:
            member.data = replace(prepared, train=Asked(prepared.train.tokens, 32, asked))
            member.epoch, member.resume_steps = epoch, (0, 4, 8)
            if start:
                member.resume(Commit(epoch - 1, start))
                assert equal(member, members[0])
        members[0].pause_at = end
        train(members, start)
        found += losses(members[0])
        assert all(equal(member, members[0]) for member in members)

    torch.testing.assert_close(found, losses(alone[0]), rtol=1e-4, atol=0)
    consumed = range(STEPS * members[0].spec.global_batch)
    assert sorted(asked) == sorted(sample_of(at, len(prepared.train), 0) for at in consumed)


def test_all_stand_still_until_the_first_member_has_room_and_then_go_on(build: Build) -> None:
    members = build(2)
    members[0].commits = Full

    endings = train(members)

    assert all(isinstance(ending, Done) for ending in endings)
    assert isinstance(members[0].committer, Full)
    assert members[0].committer.looks == 3
    assert len(losses(members[0])) == STEPS


def test_the_size_of_a_micro_batch_changes_nothing_but_the_memory(build: Build) -> None:
    figures = []
    for micro_batch in (1, 4, 6):
        (member,) = build(name=str(micro_batch), micro_batch=micro_batch)
        member.train()
        figures.append(losses(member))

    torch.testing.assert_close(figures[1], figures[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(figures[2], figures[0], rtol=1e-4, atol=0)


def test_figures_have_the_names_that_were_promised(build: Build) -> None:
    members = build(2, validate_every_steps=5)

    train(members)

    gradient_bytes = sum(parameter.nbytes for parameter in members[0].model.parameters())
    found = lines(members[0])
    steps = [line for line in found if "loss" in line]
    held_out = [line for line in found if "val_loss" in line]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    assert [line["step"] for line in held_out] == [5, 10, STEPS]
    assert len(steps) + len(held_out) == len(found)
    for line in steps:
        assert line.keys() == {
            "at", "step", "steps", "loss", "tokens_per_s", "step_s", "bytes_sent", "learning_rate",
        }  # fmt: skip
        assert (line["steps"], line["step_s"]) == (STEPS, LOOKS * members[0].tick_s)
        assert LOOKS * line["tokens_per_s"] == members[0].spec.global_batch * 32
        # Of two members each sends as much as the gradients are, and the words.
        assert line["bytes_sent"] == gradient_bytes + 4 * words_max(2)
    for line in held_out:
        assert line.keys() == {"at", "step", "val_loss", "val_bits_per_byte", "val_tokens"}
    assert held_out[-1]["val_loss"] < held_out[0]["val_loss"]


def test_commits_come_in_their_time_and_one_at_the_end(build: Build) -> None:
    (member,) = build(checkpoint_every_steps=5)

    member.train()

    assert checkpoint.commits(member.checkpoints, RUN) == [Commit(0, 10), Commit(0, STEPS)]
    manifest = checkpoint.read_manifest(member.checkpoints, RUN, Commit(0, 10))
    assert manifest.samples == 10 * member.spec.global_batch
    last = build()[0]
    last.resume(Commit(0, STEPS))
    assert equal(last, member)


def test_the_first_member_exports_what_was_trained_and_says_how_good_it_is(
    build: Build, prepared: Data
) -> None:
    members = build(2)

    first, second = train(members)

    assert second == Done(epoch=0, step=STEPS)
    assert isinstance(first, Done)
    assert first.folder is not None
    model, _, tokenizer = export.load(Path(first.folder))
    for name, value in members[1].model.named_parameters():
        assert torch.equal(model.get_parameter(name), value)
    assert tokenizer.to_str() == prepared.tokenizer.to_str()
    held = lines(members[0])[-1]
    assert first.metrics == {
        "val_loss": held["val_loss"],
        "bits_per_byte": held["val_bits_per_byte"],
        "loss": losses(members[0])[-1],
    }
    assert not members[1].folder.exists()


def test_each_step_of_a_run_sees_the_samples_that_are_next(build: Build, prepared: Data) -> None:
    members, resumed = (build(2, "run", checkpoint_every_steps=HALF) for _ in range(2))
    asked: list[int] = []
    for member in (*members, *resumed):
        member.data = replace(prepared, train=Asked(prepared.train.tokens, 32, asked))
    members[0].pause_at = HALF
    train(members)
    for member in resumed:
        member.epoch = 1
        member.resume(Commit(0, HALF))

    train(resumed, HALF)

    spec = members[0].spec
    due = [sample_of(at, len(prepared.train), spec.seed) for at in range(STEPS * spec.global_batch)]
    assert sorted(asked) == sorted(due)
    assert len(set(due)) == len(due)


@pytest.mark.parametrize(("tick_s", "told"), [(1.0, range(1, STEPS + 1)), (0.0, [1, STEPS])])
def test_steps_are_told_as_often_as_time_goes_by_and_the_last_one_always(
    build: Build, tick_s: float, told: Sequence[int]
) -> None:
    (member,) = build()
    member.tick_s = tick_s

    member.train()

    steps = [event for event in member.said if isinstance(event, Stepped)]
    assert [event.step for event in steps] == list(told)
    assert steps[-1].loss == losses(member)[-1]


def test_a_pause_that_any_member_wishes_stops_all_after_the_same_step(build: Build) -> None:
    members = build(3)
    members[2].pause_at = 4

    endings = train(members)

    assert endings == [Paused(epoch=0, step=4)] * 3
    assert checkpoint.commits(members[0].checkpoints, RUN) == []  # it is held in memory


def test_a_pause_at_the_last_step_is_the_end(build: Build) -> None:
    (member,) = build()
    member.pause_at = STEPS

    assert isinstance(member.train(), Done)


def test_a_run_whose_last_step_was_taken_before_ends_without_another(build: Build) -> None:
    (before,) = build()
    before.train()
    (after,) = build()
    after.epoch = 1
    after.resume(Commit(0, STEPS))

    ending = after.train(STEPS)

    assert isinstance(ending, Done)
    assert equal(after, before)
    assert ending.metrics.keys() == {"val_loss", "bits_per_byte"}
    assert [line["step"] for line in lines(after)] == [STEPS]


def test_a_loss_that_is_no_number_fails_the_run_and_its_step_is_not_applied(build: Build) -> None:
    members = build(2)
    broken = members[0].model.model.norm.weight
    broken.detach()[0] = math.nan
    members[1].model.load_state_dict(members[0].model.state_dict())
    before = [parameter.detach().clone() for parameter in members[0].model.parameters()]

    endings = train(members)

    assert endings == [Failed(why="the loss was nan at step 1")] * 2
    for parameter, old in zip(members[0].model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), old, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_saved_and_the_last_good_ones_stay(
    build: Build, poison: float
) -> None:
    (member,) = build(checkpoint_every_steps=5)

    def spoil(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 10:
            with torch.no_grad():
                next(iter(member.model.parameters())).fill_(poison)

    member.say = spoil

    ending = member.train()

    assert ending == Failed(why="weights are no numbers after step 10")
    assert checkpoint.newest_sound(member.checkpoints, RUN, (0,)) == Commit(0, 5)
    last = build()[0]
    last.resume(Commit(0, 5))
    assert are_finite(last.model)


def test_a_gradient_that_is_no_number_moves_nothing(build: Build) -> None:
    (member,) = build()
    weight = next(iter(member.model.parameters()))
    weight.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]
    before = weight.detach().clone()

    ending = member.train()

    assert isinstance(ending, Failed)
    assert ending.why.startswith("the gradient was")
    assert torch.equal(weight, before)


def test_a_last_step_that_ruins_the_weights_fails_the_run(build: Build) -> None:
    members = build(2, steps=1, learning_rate=1e10, warmup_steps=0)

    endings = train(members)

    for ending in endings:
        assert isinstance(ending, Failed)
        assert "held-out" in ending.why
        assert EVENTS.validate_json(ending.encode()) == ending
    assert not (members[0].folder / "model").exists()
