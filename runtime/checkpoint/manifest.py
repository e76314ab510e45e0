"""What a commit says, which commits count, and which run may go on from one. Pure."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.errors import Corrupt, Refused
from runtime.node_spec import ModelSpec, TrainSpec


class Part(BaseModel):
    """Frozen, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, order=True, slots=True)
class Commit:
    """The name of a commit; a later one is larger."""

    epoch: int
    step: int

    @property
    def name(self) -> str:
        """As in the key."""
        return f"{self.epoch}-{self.step:08d}"

    @classmethod
    def parse(cls, name: str) -> "Commit | None":
        """The commit of a name, or None if it is no such name."""
        epoch, _, step = name.partition("-")
        commit = cls(int(epoch), int(step)) if epoch.isdecimal() and step.isdecimal() else None
        return commit if commit is not None and commit.name == name else None


class Shard(Part):
    """A safetensors file of a checkpoint."""

    key: str
    sha256: str
    size_bytes: int


class Recipe(Part):
    """What must be the same for a run to go on from a checkpoint as if nothing had been."""

    model: ModelSpec
    data: str  # digest of the prepared data
    tokenizer: str  # SHA-256 of its file
    seed: int
    global_batch: int
    sequence_tokens: int

    @classmethod
    def of(cls, spec: TrainSpec, data: str, tokenizer: str) -> "Recipe":
        """Of a run, with the data that its nodes have prepared."""
        return cls(
            model=spec.model,
            data=data,
            tokenizer=tokenizer,
            seed=spec.seed,
            global_batch=spec.global_batch,
            sequence_tokens=spec.sequence_tokens,
        )


class Draft(Recipe):
    """A checkpoint before its shards are written."""

    run: str
    epoch: int
    step: int  # applied
    samples: int  # consumed over all members: the whole state of the data
    at: datetime
    nonce: str  # nobody else's: two processes never write the same shard

    @property
    def commit(self) -> Commit:
        """Its name."""
        return Commit(self.epoch, self.step)

    @property
    def attempt(self) -> str:
        """Where its shards are."""
        return f"{self.run}/{self.commit.name}-{self.nonce}"


class Manifest(Draft):
    """A commit."""

    format: Literal[1] = 1
    shards: tuple[Shard, ...]


class Sealed(Part):
    """A manifest as it is stored: with its own digest, so that each flipped bit is seen."""

    manifest: Manifest
    sha256: str


def seal(manifest: Manifest) -> bytes:
    """The bytes of a manifest; there is one spelling."""
    digest = hashlib.sha256(manifest.model_dump_json().encode()).hexdigest()
    return Sealed(manifest=manifest, sha256=digest).model_dump_json(indent=1).encode()


def unseal(content: bytes, run: str, commit: Commit) -> Manifest:
    """The manifest of this commit; raises Corrupt if these bytes are not what was sealed for it."""
    try:
        manifest = Sealed.model_validate_json(content).manifest
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        raise Corrupt(f"no manifest: {first['loc']}: {first['msg']}") from fault
    if seal(manifest) != content:
        raise Corrupt("the manifest does not fit its own SHA-256")
    if (manifest.run, manifest.commit) != (run, commit):
        raise Corrupt(f"the manifest is that of {manifest.run} {manifest.commit.name}")
    return manifest


def manifest_key(run: str, commit: Commit) -> str:
    """Where a manifest is."""
    return f"{run}/commits/{commit.name}"


def pin_key(run: str, commit: Commit) -> str:
    """Where a pin is."""
    return f"{run}/pins/{commit.name}"


def quarantine_key(run: str, commit: Commit) -> str:
    """Where it stands that a commit is damaged."""
    return f"{run}/quarantine/{commit.name}"


def counting(commits: Iterable[Commit], resume_steps: Sequence[int]) -> list[Commit]:
    """Those that count, newest first. `resume_steps` are the epochs' own, in order."""

    def counts(commit: Commit) -> bool:
        later = resume_steps[commit.epoch + 1 :]
        return commit.epoch < len(resume_steps) and all(commit.step <= step for step in later)

    return sorted(filter(counts, commits), reverse=True)


def refuse_mismatch(manifest: Manifest, wanted: Recipe) -> None:
    """Raise Refused, naming all differences, unless a run by `wanted` may go on from it."""
    faults = [
        f"{at}: found {found}; allowed {allowed}, as in the checkpoint"
        for at, found, allowed in _compared(manifest, wanted)
        if found != allowed
    ]
    if faults:
        raise Refused(
            f"resume of {manifest.run} from {manifest.commit.name}: {'; '.join(faults)}; "
            "set back what has changed, or start a new run"
        )


def _compared(manifest: Manifest, wanted: Recipe) -> Iterator[tuple[str, object, object]]:
    for name in ModelSpec.model_fields:
        yield f"training.model.{name}", getattr(wanted.model, name), getattr(manifest.model, name)
    for name in ("seed", "global_batch", "sequence_tokens"):
        yield f"training.{name}", getattr(wanted, name), getattr(manifest, name)
    yield "digest of training.data", wanted.data, manifest.data
    yield "digest of the tokenizer", wanted.tokenizer, manifest.tokenizer
