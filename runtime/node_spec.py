"""What infra promises to a node: one JSON file, read once at start.

Pure: no clock, no environment. Secrets never stand here, only hashes and references.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runtime.limits import DRAIN_NOTICE_S

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Device = Literal["cpu", "gpu"]
LOOK_BACK_DAYS = 8  # a weekly schedule has a tick in any eight days


STORED_TEXTS = "texts/"  # begins the key of an archive of texts in the store of data


class Strict(BaseModel):
    """Frozen, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(Strict):
    """Due times of a weekly calendar, in the wall clock of one IANA zone."""

    minute: int = Field(ge=0, le=59, description="Minute of the hour, 0 to 59.")
    hour: int = Field(ge=0, le=23, description="Hour of the day, 0 to 23, in `zone`.")
    weekdays: tuple[Weekday, ...] = Field(
        default=WEEKDAYS, min_length=1, description="Days on which it is due; all by default."
    )
    zone: str = Field(default="UTC", description="IANA time zone, for example Europe/Zurich.")

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{zone!r} is no IANA time zone") from None
        return zone

    def last_tick(self, now: datetime) -> datetime | None:
        """The newest due time at or before `now` (aware), in UTC; None if none in eight days.

        A due time that the spring change skips comes later by as much as the clock jumps; one that
        the autumn change repeats comes once, the first time (PEP 495, fold=0).
        """
        zone = ZoneInfo(self.zone)
        today = now.astimezone(zone).date()
        for back in range(LOOK_BACK_DAYS + 1):
            day = today - timedelta(days=back)
            if WEEKDAYS[day.weekday()] not in self.weekdays:
                continue
            wall = datetime(day.year, day.month, day.day, self.hour, self.minute, tzinfo=zone)
            tick = wall.astimezone(UTC)
            if tick <= now:
                return tick
        return None

    def next_tick(self, now: datetime) -> datetime:
        """The first due time after `now` (aware), in UTC."""
        zone = ZoneInfo(self.zone)
        today = now.astimezone(zone).date()
        for ahead in range(LOOK_BACK_DAYS + 1):
            day = today + timedelta(days=ahead)
            if WEEKDAYS[day.weekday()] not in self.weekdays:
                continue
            wall = datetime(day.year, day.month, day.day, self.hour, self.minute, tzinfo=zone)
            tick = wall.astimezone(UTC)
            if tick > now:
                return tick
        raise AssertionError("a weekly schedule has a tick in any eight days")


class StoreUrls(Strict):
    """Where the five stores are: file:///…, s3://…, gs://… or az://…"""

    bundle: str
    data: str
    checkpoints: str
    models: str
    control: str


class ModelSpec(Strict):
    """Shape of the Llama-shaped decoder."""

    vocabulary: int = Field(default=2048, ge=257, le=65536, description="Size of the BPE, tokens.")
    width: int = Field(default=192, ge=32, le=8192, description="Width of the residual stream.")
    layers: int = Field(default=4, ge=1, le=128, description="Decoder layers.")
    heads: int = Field(default=6, ge=1, le=128, description="Attention heads; must divide width.")
    kv_heads: int = Field(
        default=6, ge=1, le=128, description="Key/value heads; must divide heads."
    )
    hidden: int = Field(default=512, ge=32, le=32768, description="Width of the gated MLP.")
    context: int = Field(default=512, ge=32, le=131072, description="Longest sequence, tokens.")


class TrainSpec(Strict):
    """One training pool's work: the data, the model, and how it is trained."""

    model_name: str = Field(description="Name that model versions are published under.")
    model: ModelSpec
    data: str = Field(description="Folder, file, `python-stdlib`, or a key in the store of data.")
    nodes: int = Field(ge=1, description="Nodes of a full epoch.")
    min_nodes: int = Field(ge=1, description="Fewest nodes that go on.")
    steps: int = Field(ge=1, description="Optimizer steps of a run.")
    global_batch: int = Field(ge=1, description="Sequences per step over all nodes.")
    micro_batch: int = Field(ge=1, description="Sequences per forward pass on one worker.")
    sequence_tokens: int = Field(ge=8, description="Tokens per training sequence.")
    learning_rate: float = Field(gt=0, description="Peak of the cosine.")
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(gt=0)
    seed: int = Field(ge=0)
    checkpoint_every_steps: int | None = Field(
        default=None, ge=1, description="None: as often as it pays."
    )
    validate_every_steps: int = Field(ge=1)
    join_s: float = Field(gt=0, description="Wait for missing nodes of the first epoch.")
    pause_s_max: float = Field(gt=0, description="Below min_nodes for this long ends the run.")
    unsaved_s_max: float = Field(gt=0, description="No checkpoint taken for so long: pause.")
    watchdog_s: float = Field(gt=0, description="A node silent for so long is put out.")
    threads_per_worker: int = Field(ge=1)
    device: Device = "cpu"
    schedule: Schedule | None = None


class ServeSpec(Strict):
    """What a replica serves and within which limits."""

    model_name: str
    max_tokens: int = Field(ge=1, description="Most new tokens one request may ask for.")
    slots: int = Field(ge=1, description="Requests decoded together.")
    queue: int = Field(ge=0, description="Requests that may wait for a slot.")
    drain_s: float = Field(gt=0, description="Longest wait for open requests when leaving.")
    threads: int = Field(ge=1, description="Threads of the engine.")
    port: int = Field(ge=1, le=65535)


class GatewaySpec(Strict):
    """What a gateway admits and where it finds replicas."""

    replicas: int = Field(ge=1, description="Replicas expected; fewer means keep looking.")
    api_key_sha256: tuple[str, ...] = Field(description="Hex digests of the accepted keys.")
    max_tokens: int = Field(ge=1)
    drain_s: float = Field(gt=0)
    notice_s: float = Field(
        default=DRAIN_NOTICE_S, gt=0, description="Until its balancer has seen it leave."
    )
    port: int = Field(ge=1, le=65535)


class AwsPlace(Strict):
    """Where a node's pool is in AWS."""

    region: str = Field(pattern=r"^[a-z0-9-]+$", description="For example eu-central-1.")
    group: str = Field(min_length=1, description="Name of the pool's Auto Scaling group.")
    log_group: str | None = Field(
        default=None,
        pattern=r"^[\w./#-]+$",
        description="Log group that its log lines go to; None: they stay on the machine.",
    )


class GcpPlace(Strict):
    """Where a node's pool is in GCP."""

    project: str = Field(pattern=r"^[a-z0-9:.-]+$", description="Id of the project, not a number.")
    zone: str = Field(pattern=r"^[a-z0-9-]+$", description="For example europe-west4-a.")
    group: str = Field(pattern=r"^[a-z0-9-]+$", description="Name of its instance group manager.")


class AzurePlace(Strict):
    """Where a node's pool is in Azure."""

    subscription: str = Field(pattern=r"^[0-9a-fA-F-]{36}$", description="Id of the subscription.")
    resource_group: str = Field(pattern=r"^[\w().-]+$", description="Resource group of the stack.")
    scale_set: str = Field(pattern=r"^[\w.-]+$", description="Name of the pool's scale set.")
    client_id: str | None = Field(
        default=None,
        description="Client id of the identity to ask by; None where the machine has just one.",
    )


class NodeTemplate(Strict):
    """What all nodes of a pool are told alike."""

    stack: str
    stack_id: str
    cloud: Literal["local", "aws", "gcp", "azure"]
    pool: str
    bundle_sha256: str
    stores: StoreUrls
    train: TrainSpec | None = None
    serve: ServeSpec | None = None
    gateway: GatewaySpec | None = None
    # What the calls of its cloud need to know: the one of `cloud`; none on one machine.
    aws: AwsPlace | None = None
    gcp: GcpPlace | None = None
    azure: AzurePlace | None = None

    @model_validator(mode="after")
    def _own_cloud_only(self) -> Self:
        places = {"aws": self.aws, "gcp": self.gcp, "azure": self.azure}
        for name, place in places.items():
            if place is not None and name != self.cloud:
                raise ValueError(
                    f"{name}: found a block; allowed on cloud {name}, not {self.cloud}"
                )
        return self

    @property
    def role(self) -> Literal["training", "replica", "gateway"]:
        """The one part that is set."""
        if self.train is not None:
            return "training"
        return "replica" if self.serve is not None else "gateway"


class NodeSpec(NodeTemplate):
    """All that a node knows when it starts."""

    node: str = Field(description="Name of this node, unique in the stack.")
    address: str = Field(description="Address that other nodes reach it at.")
