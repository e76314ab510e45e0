"""Hypothesis strategies that several tests share. What they draw is valid by construction."""

from hypothesis import strategies as st

from infra.plan.facts import Facts
from infra.plan.names import NODES_MAX
from infra.plan.spec import AccessSpec, ClusterSpec, ServingSpec, StackSpec, StoreRole, TrainingSpec
from infra.plan.stores import ROLES
from runtime.node_spec import WEEKDAYS, ModelSpec, Schedule, Weekday

ZONES = ("UTC", "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
COUNTS = st.integers(1, NODES_MAX)

stack_ids = st.binary(min_size=4, max_size=4).map(bytes.hex)
store_roles: st.SearchStrategy[tuple[StoreRole, ...]] = st.lists(
    st.sampled_from(ROLES), unique=True
).map(tuple)
weekdays: st.SearchStrategy[tuple[Weekday, ...]] = st.lists(
    st.sampled_from(WEEKDAYS), min_size=1, unique=True
).map(tuple)
schedules = st.builds(
    Schedule,
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    weekdays=weekdays,
    zone=st.sampled_from(ZONES),
)
facts = st.builds(
    Facts,
    cores=st.integers(1, 256),
    data_files=st.integers(1, 1000),
    data_bytes=st.integers(1 << 20, 1 << 40),
    data=st.none() | st.just("/srv/text"),
)


@st.composite
def models(draw: st.DrawFn) -> ModelSpec:
    """Heads of even size that divide the width, groups that divide the heads."""
    kv_heads = draw(st.integers(1, 8))
    heads = kv_heads * draw(st.integers(1, 8))
    size = 2 * draw(st.integers(-(-16 // heads), 64))
    return ModelSpec(
        vocabulary=draw(st.integers(257, 65536)),
        width=heads * size,
        layers=draw(st.integers(1, 128)),
        heads=heads,
        kv_heads=kv_heads,
        hidden=draw(st.integers(32, 32768)),
        context=draw(st.integers(32, 131072)),
    )


@st.composite
def trainings(draw: st.DrawFn) -> TrainingSpec:
    """Any training that fits together."""
    model = draw(models())
    nodes = draw(COUNTS)
    global_batch = draw(st.integers(nodes, 4096))
    steps = draw(st.integers(1, 1_000_000))
    return TrainingSpec(
        model_name=draw(st.from_regex(r"[a-z][a-z0-9-]{0,39}", fullmatch=True)),
        nodes=nodes,
        min_nodes=draw(st.integers(1, nodes)),
        model=model,
        steps=steps,
        warmup_steps=draw(st.integers(0, steps - 1)),
        global_batch=global_batch,
        micro_batch=draw(st.integers(1, global_batch)),
        sequence_tokens=draw(st.integers(8, min(model.context, 4096))),
        threads_per_worker=draw(st.none() | st.integers(1, 64)),
        device=draw(st.sampled_from(["cpu", "gpu"] if nodes == 1 else ["cpu"])),
        schedule=draw(st.none() | schedules),
    )


@st.composite
def specs(draw: st.DrawFn) -> StackSpec:
    """Any stack that can be deployed to one machine."""
    training = draw(trainings())
    serving = ServingSpec(
        replicas=draw(COUNTS),
        gateways=draw(COUNTS),
        max_tokens=draw(st.integers(1, training.model.context - 1)),
        threads=draw(st.none() | st.integers(1, 64)),
    )
    access = AccessSpec(
        address=draw(st.none() | st.just("127.0.0.1")), port=draw(st.integers(1024, 9900))
    )
    cluster = ClusterSpec(retain_data=draw(store_roles))
    return StackSpec(cluster=cluster, training=training, serving=serving, access=access)
