"""What a stack file may say. The description of each field is what the reference page shows.

Each default stands here and nowhere else. Relations between fields are checked in the plan, so that
all faults come in one message.
"""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from infra.plan.names import NODES_MAX
from runtime.limits import WATCHDOG_S_MIN
from runtime.node_spec import Device, ModelSpec, Schedule

CloudName = Literal["local", "aws", "gcp", "azure"]
CLOUDS_KNOWN: tuple[CloudName, ...] = get_args(CloudName)
StoreRole = Literal["bundle", "data", "checkpoints", "models", "control"]
Capacity = Literal["on_demand", "spot", "mixed", "reservation"]
Egress = Literal["nat", "private"]
Tls = Literal["none", "managed", "provided"]
SEED_MAX = (1 << 32) - 1
NAME = r"^[a-z][a-z0-9-]{0,39}$"
EMAIL = r"^[A-Za-z0-9._%+'-]{1,64}@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}$"
EMAILS_MAX = 10  # that AWS Budgets writes to at once
DATA: tuple[StoreRole, ...] = ("data", "checkpoints", "models")  # what `retain_data: true` means


def _roles(value: object) -> object:
    """`true` and `false` are short for the data and for nothing."""
    if isinstance(value, bool):
        return DATA if value else ()
    return value


StoreRoles = Annotated[
    tuple[StoreRole, ...],
    BeforeValidator(_roles, json_schema_input_type=bool | tuple[StoreRole, ...]),
]


Email = Annotated[str, StringConstraints(pattern=EMAIL)]


class Part(BaseModel):
    """Frozen, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClusterSpec(Part):
    """Where the stack stands."""

    cloud: CloudName = Field(
        default="local",
        description="`local` is this machine; the others can be planned and priced, but not "
        "deployed to yet.",
    )
    region: str | None = Field(
        default=None,
        description="Region of a rented cloud, as the cloud writes it, for example us-east-1.",
    )
    zones: tuple[str, ...] = Field(
        default=(),
        description="Zones in that region: training stands in the first one, replicas and "
        "gateways in all.",
    )
    egress: Egress = Field(
        default="nat",
        description="How nodes of a rented cloud, which have no public address, reach what is "
        "outside: through address translation, or by private links to the cloud's own services.",
    )
    retain_data: StoreRoles = Field(
        default=(),
        description="Stores that `destroy` keeps, for example [models]; "
        f"`true` is short for [{', '.join(DATA)}].",
    )


class PoolSpec(Part):
    """The machines of one pool, on a rented cloud."""

    machines: tuple[str, ...] = Field(
        default=(),
        description="Machine types, the best first; the others are taken where it has no capacity. "
        "All known ones with their prices: `infra/plan/prices`.",
    )
    capacity: Capacity = Field(
        default="on_demand",
        description="How they are rented; `mixed` is one on demand and the rest spot.",
    )
    reservation: str | None = Field(
        default=None, description="Id of the reservation that they are taken from."
    )
    fabric: bool = Field(
        default=False,
        description="Whether nodes meet over the machine's own network for collectives: EFA, "
        "InfiniBand or RDMA.",
    )
    disk_gib: int = Field(
        default=60, ge=30, le=16384, description="System disk of each node, GiB, encrypted."
    )


class PoolsSpec(Part):
    """What the nodes are made of, on a rented cloud; their numbers stand elsewhere."""

    training: PoolSpec = Field(default_factory=PoolSpec, description="Nodes that train.")
    replica: PoolSpec = Field(default_factory=PoolSpec, description="Nodes that answer.")
    gateway: PoolSpec = Field(
        default_factory=PoolSpec, description="Nodes that take client requests; no GPU needed."
    )


class BudgetSpec(Part):
    """What the stack may cost. List prices, without taxes and discounts."""

    max_usd_per_hour: float | None = Field(
        default=None,
        gt=0,
        description="A stack that would cost more at any time, training included, is refused.",
    )
    max_usd_per_run: float | None = Field(
        default=None, gt=0, description="A stack whose longest run would cost more is refused."
    )
    max_usd_per_month: float | None = Field(
        default=None,
        gt=0,
        description="A stack that would cost more at rest is refused; the cloud itself then counts "
        "what the stack costs, and warns `alert_emails` at 80 % of it and when it foresees more. "
        "AWS counts by the tag `atoll:stack-id`, which the payer of the account must activate as a "
        "cost allocation tag, once.",
    )
    alert_emails: tuple[Email, ...] = Field(
        default=(),
        max_length=EMAILS_MAX,
        description="Who is warned by mail, for example [ops@example.org], 10 at most: of costs, "
        "and when no gateway of a rented cloud answers. AWS asks each of them first.",
    )
    run_hours: float = Field(
        default=12.0,
        gt=0,
        le=31 * 24,
        description="Longest time that training nodes of a rented cloud may stand for one run; "
        "prices of a run are for so long.",
    )


class TrainingSpec(Part):
    """What is trained, on how many nodes, and when."""

    model_name: str = Field(
        default="atoll-code",
        pattern=NAME,
        description="Name of the model in the API: a letter, then letters, digits and dashes, "
        "all lower-case, 40 at most.",
    )
    data: str = Field(
        default="python-stdlib",
        min_length=1,
        description="A folder or a file of text, from the root of the clone if not absolute; or "
        "`python-stdlib`: the sources of the standard library found on the machine. A rented stack "
        "has it in its store of data, 256 MiB at most.",
    )
    nodes: int = Field(default=2, ge=1, le=NODES_MAX, description="Nodes that train together.")
    min_nodes: int = Field(
        default=1,
        ge=1,
        le=NODES_MAX,
        description="Fewest nodes that a run goes on with; at most `nodes`.",
    )
    model: ModelSpec = Field(default_factory=ModelSpec, description="Shape of the decoder.")
    steps: int = Field(default=480, ge=1, description="Optimizer steps of a run.")
    global_batch: int = Field(
        default=16, ge=1, description="Sequences per step, over all nodes, whatever their number."
    )
    micro_batch: int = Field(
        default=8, ge=1, description="Sequences per forward pass; at most `global_batch`."
    )
    sequence_tokens: int = Field(
        default=128, ge=8, description="Tokens per training sequence; at most `model.context`."
    )
    learning_rate: float = Field(default=2e-3, gt=0, description="Peak of warm-up and cosine.")
    warmup_steps: int = Field(
        default=100, ge=0, description="Steps of linear warm-up; fewer than `steps`."
    )
    weight_decay: float = Field(default=0.1, ge=0, description="AdamW's, on matrices only.")
    clip_norm: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    seed: int = Field(
        default=0, ge=0, le=SEED_MAX, description="Of weights and of the order of the data."
    )
    checkpoint_every_steps: int | None = Field(
        default=None,
        ge=1,
        description="A checkpoint after this many steps; left out, as often as it pays, by what "
        "one costs and how often nodes fail.",
    )
    validate_every_steps: int = Field(
        default=100, ge=1, description="Held-out loss after this many steps."
    )
    join_s: float = Field(
        default=60.0, gt=0, description="Longest wait for missing nodes at the start, seconds."
    )
    pause_s_max: float = Field(
        default=300.0,
        gt=0,
        description="A run that stays below `min_nodes` for longer is ended, seconds.",
    )
    unsaved_s_max: float = Field(
        default=600.0,
        gt=0,
        description="A store that takes no checkpoint for longer pauses the run until it does, "
        "seconds.",
    )
    watchdog_s: float = Field(
        default=5.0,
        ge=WATCHDOG_S_MIN,
        description="After so much silence of a node the others go on without it, seconds.",
    )
    threads_per_worker: int | None = Field(
        default=None, ge=1, description="Threads of a worker; left out, cores divided by nodes."
    )
    device: Device = Field(
        default="cpu", description="What a node computes on; of several GPUs it uses the first."
    )
    schedule: Schedule | None = Field(
        default=None, description="When runs start by themselves; left out, only on demand."
    )


class ServingSpec(Part):
    """How the model answers."""

    replicas: int = Field(default=2, ge=1, le=NODES_MAX, description="Copies of the engine.")
    gateways: int = Field(
        default=2, ge=1, le=NODES_MAX, description="Processes that take client requests."
    )
    max_tokens: int = Field(
        default=256,
        ge=1,
        description="Most new tokens of a request; below `training.model.context`.",
    )
    slots: int = Field(default=8, ge=1, le=1024, description="Requests decoded together.")
    queue: int = Field(default=64, ge=0, description="Requests that may wait for a slot.")
    drain_s: float = Field(
        default=30.0,
        gt=0,
        description="Longest wait for open requests when a node leaves, seconds.",
    )
    threads: int | None = Field(
        default=None, ge=1, description="Threads of an engine; left out, cores divided by replicas."
    )


class AccessSpec(Part):
    """Where clients connect."""

    address: str | None = Field(
        default=None,
        description="IPv4 address of this machine; left out, one of the stack's own in "
        "127.0.0.0/8. A rented balancer has its own.",
    )
    port: int = Field(
        default=8080,
        ge=1,
        le=65535,
        description="TCP port of the endpoint on this machine; a rented balancer has 443 with TLS, "
        "80 without.",
    )
    tls: Tls = Field(
        default="none",
        description="Of a rented balancer: a certificate that the cloud makes for `domain`, your "
        "own `certificate`, or none.",
    )
    domain: str | None = Field(
        default=None, description="Name that clients connect to, with `tls: managed`."
    )
    certificate: str | None = Field(
        default=None,
        description="The certificate's id in your cloud, with `tls: provided`: an ACM ARN, a "
        "Certificate Manager name, or the id of a Key Vault secret.",
    )
    allowed_ranges: tuple[str, ...] = Field(
        default=(),
        description="Who may connect to a rented balancer, as address ranges, for example "
        "[203.0.113.0/24]; 0.0.0.0/0 is everybody, with TLS only.",
    )


class StackSpec(Part):
    """A whole stack file."""

    cluster: ClusterSpec = Field(default_factory=ClusterSpec)
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    serving: ServingSpec = Field(default_factory=ServingSpec)
    access: AccessSpec = Field(default_factory=AccessSpec)
    pools: PoolsSpec = Field(default_factory=PoolsSpec)
    budget: BudgetSpec = Field(default_factory=BudgetSpec)
