"""What can't be rented so is refused, each with its path; what can is planned on its machines."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from infra.config import read_spec
from infra.plan.facts import UNSEEN
from infra.plan.fault import Fault, Faults
from infra.plan.machines import machines_in
from infra.plan.plan import Plan, plan

AWS: Mapping[str, Any] = {
    "cloud": "aws",
    "region": "us-east-1",
    "zones": ["us-east-1a", "us-east-1b"],
}
GCP: Mapping[str, Any] = {"cloud": "gcp", "region": "us-central1", "zones": ["us-central1-a"]}
AZURE: Mapping[str, Any] = {"cloud": "azure", "region": "eastus", "zones": ["1"]}
CPU = {"aws": "m7i.large", "gcp": "n2-standard-2", "azure": "Standard_D2s_v5"}
ROOMY = {"aws": "c7i.4xlarge", "gcp": "g2-standard-24", "azure": "Standard_NC24ads_A100_v4"}
LARGE = {"width": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "hidden": 14336}


def pools(cloud: str, **training: object) -> dict[str, object]:
    """CPU machines for all, but what is said of training."""
    other = {"machines": [CPU[cloud]]}
    return {"training": other | training, "replica": other, "gateway": other}


def file(cluster: Mapping[str, object], **parts: object) -> dict[str, object]:
    """A stack file that can be planned, with these parts instead."""
    cloud = str(cluster["cloud"])
    access = {"allowed_ranges": ["203.0.113.0/24"]}
    return {"cluster": cluster, "pools": pools(cloud), "access": access} | parts


def planned(config: Mapping[str, object]) -> Plan:
    spec, known = read_spec({f"atoll:{key}": value for key, value in config.items()})
    return plan(spec, UNSEEN, known)


def refused(config: Mapping[str, object]) -> list[Fault]:
    with pytest.raises(Faults) as raised:
        planned(config)
    return list(raised.value.faults)


@pytest.mark.parametrize("cluster", [AWS, GCP, AZURE], ids=lambda c: str(c["cloud"]))
def test_a_stack_of_each_cloud_is_planned_on_its_machines_and_priced(
    cluster: Mapping[str, object],
) -> None:
    decided = planned(file(cluster))

    cloud = str(cluster["cloud"])
    assert [pool.rented.machines for pool in decided.pools] == [(CPU[cloud],)] * 3
    train, serve = decided.pools[0].train, decided.pools[1].serve
    assert train is not None
    assert serve is not None
    cpus = machines_in(decided.cloud, str(cluster["region"]))[CPU[cloud]].cpus
    assert train.threads_per_worker == serve.threads == cpus, "a machine is a node's alone"
    at_rest, training = (decided.price.usd_per_hour(is_training=flag) for flag in (False, True))
    assert 0 < at_rest[0] <= at_rest[1] < training[1]


def faults() -> Iterator[object]:
    """Stack files that go wrong in one way: (id, file, path, what of found, what of allowed)."""

    def one(
        name: str, config: Mapping[str, object], at: str, found: str, allowed: str = ""
    ) -> object:
        return pytest.param(config, at, found, allowed, id=name)

    gpu = {"device": "gpu"}
    yield one("a region on this machine", {"cluster": {"region": "x"}}, "cluster.region", "rented")
    yield one("zones on this machine", {"cluster": {"zones": ["a"]}}, "cluster.zones", "rented")
    yield one(
        "private on this machine", {"cluster": {"egress": "private"}}, "cluster.egress", "rented"
    )
    yield one(
        "machines on this machine",
        {"pools": {"gateway": {"machines": ["t3.large"]}}},
        "pools.gateway",
        "rented",
    )
    yield one(
        "a month on this machine",
        {"budget": {"max_usd_per_month": 10}},
        "budget.max_usd_per_month",
        "rented",
    )
    yield one(
        "mail from this machine",
        {"budget": {"alert_emails": ["ops@example.org"]}},
        "budget.alert_emails",
        "rented",
    )
    for cluster in (AWS, GCP, AZURE):
        cloud, region = cluster["cloud"], cluster["region"]
        nowhere = {key: value for key, value in cluster.items() if key != "region"}
        yield one(f"{cloud}, no region", file(nowhere), "cluster.region", "nothing", region)
        yield one(
            f"{cloud}, another's region",
            file({**cluster} | {"region": "mars-north1"}),
            "cluster.region",
            "mars-north1",
            region,
        )
        yield one(f"{cloud}, no zone", file({**cluster} | {"zones": []}), "cluster.zones", "none")
        yield one(
            f"{cloud}, a zone twice",
            file({**cluster} | {"zones": [cluster["zones"][0]] * 2}),
            "cluster.zones",
            cluster["zones"][0],
            "different",
        )
        yield one(
            f"{cloud}, a zone of elsewhere",
            file({**cluster} | {"zones": ["eu-west-1a", "eu-west-1b"]}),
            "cluster.zones",
            "eu-west-1a",
            region if cloud != "azure" else "1",
        )
        yield one(
            f"{cloud}, no machine",
            file(cluster, pools=pools(cloud, machines=[])),
            "pools.training.machines",
            "none",
            CPU[cloud],
        )
        yield one(
            f"{cloud}, a machine that there is not",
            file(cluster, pools=pools(cloud, machines=[CPU[cloud], "h900.large"])),
            "pools.training.machines",
            "h900.large",
            CPU[cloud],
        )
        yield one(
            f"{cloud}, a gpu that is none",
            file(cluster, training=gpu),
            "pools.training.machines",
            "no GPU",
        )
        yield one(
            f"{cloud}, fabric where there is none",
            file(cluster, pools=pools(cloud, fabric=True)),
            "pools.training.fabric",
            "no network of its own",
        )
        yield one(
            f"{cloud}, a model too large for the node",
            file(
                cluster,
                training={"model": LARGE},
                pools=pools(cloud) | {"replica": {"machines": [ROOMY[cloud]]}},
            ),
            "pools.training.machines",
            "of memory",
            "parameters x 16 bytes",
        )
        yield one(
            f"{cloud}, a drain too long",
            file(cluster, serving={"drain_s": 4000}),
            "serving.drain_s",
            "4000",
            "3600",
        )
        yield one(
            f"{cloud}, over the cap of an hour",
            file(cluster, budget={"max_usd_per_hour": 0.01}),
            "budget.max_usd_per_hour",
            "0.01",
        )
        yield one(
            f"{cloud}, over the cap of a run",
            file(cluster, budget={"max_usd_per_run": 0.01}),
            "budget.max_usd_per_run",
            "in 12 h",
        )
        yield one(
            f"{cloud}, over the cap of a month",
            file(cluster, budget={"max_usd_per_month": 1}),
            "budget.max_usd_per_month",
            "for 730 h",
            "or more",
        )
    yield one(
        "an address that is none",
        file(AWS, budget={"alert_emails": ["ops@example.org", "ops at example.org"]}),
        "budget.alert_emails.1",
        "ops at example.org",
        "for example [ops@example.org]",
    )
    yield one(
        "too many addresses",
        file(AWS, budget={"alert_emails": [f"{name}@example.org" for name in "abcdefghijk"]}),
        "budget.alert_emails",
        "a@example.org",
        "10 at most",
    )
    yield one(
        "an address twice",
        file(AWS, budget={"alert_emails": ["Ops@example.org", "ops@example.ORG"]}),
        "budget.alert_emails",
        "ops@example.org more than once",
    )
    yield one(
        "one zone on aws",
        file({**AWS} | {"zones": ["us-east-1a"]}),
        "cluster.zones",
        "us-east-1a",
        "2",
    )
    yield one(
        "private on azure",
        file({**AZURE} | {"egress": "private"}),
        "cluster.egress",
        "private",
        "nat",
    )
    yield one(
        "private on aws",
        file({**AWS} | {"egress": "private"}),
        "cluster.egress",
        "install at their first start",
        "nat",
    )
    yield one(
        "machines with other network cards",
        file(
            AWS,
            training=gpu,
            pools=pools("aws", fabric=True, machines=["g5.12xlarge", "g6e.48xlarge"]),
        ),
        "pools.training.machines",
        "whose network cards are others",
        "the same cards",
    )
    yield one(
        "an arm machine",
        file(AWS, pools=pools("aws", machines=["m7g.large"])),
        "pools.training.machines",
        "arm64",
        "x86_64",
    )
    yield one(
        "on demand where there is none",
        file(GCP, training=gpu, pools=pools("gcp", machines=["a3-highgpu-1g"])),
        "pools.training.capacity",
        "on_demand for a3-highgpu-1g",
        "spot",
    )
    yield one(
        "fabric of a gateway",
        file(AWS, pools=pools("aws") | {"gateway": {"machines": ["t3.large"], "fabric": True}}),
        "pools.gateway.fabric",
        "no collective",
        "false",
    )
    yield one(
        "a model too large for the device",
        file(
            AWS,
            training=gpu | {"model": LARGE},
            pools=pools("aws", machines=["p5.48xlarge"])
            | {"replica": {"machines": ["g6.12xlarge"]}},
        ),
        "pools.training.machines",
        "on its H100",
        "GiB or more",
    )
    yield one(
        "a model too large for a replica",
        file(
            AWS,
            training={"model": LARGE},
            pools=pools("aws", machines=["p5.48xlarge"]),
        ),
        "pools.replica.machines",
        "of memory",
        "weights",
    )
    yield one(
        "a reservation without its id",
        file(AWS, pools=pools("aws", capacity="reservation")),
        "pools.training.reservation",
        "nothing",
        "the id",
    )
    yield one(
        "spot with a reservation",
        file(AWS, pools=pools("aws", capacity="spot", reservation="cr-1")),
        "pools.training.reservation",
        "cr-1 with capacity spot",
    )
    yield one(
        "a reservation of two machines",
        file(
            AWS,
            pools=pools(
                "aws",
                capacity="reservation",
                reservation="cr-1",
                machines=["m7i.large", "m7i.xlarge"],
            ),
        ),
        "pools.training.machines",
        "2 with capacity reservation",
    )
    yield one(
        "the only node on spot, and its state too large for the notice",
        file(
            AZURE,
            training=gpu
            | {"nodes": 1, "min_nodes": 1, "micro_batch": 1, "model": LARGE | {"layers": 24}},
            pools=pools("azure", capacity="spot", machines=[ROOMY["azure"]])
            | {"replica": {"machines": [ROOMY["azure"]]}},
        ),
        "pools.training.capacity",
        "25 s to leave",
        "two nodes",
    )


@pytest.mark.parametrize(("config", "at", "found", "allowed"), list(faults()))
def test_what_can_not_be_rented_so_is_refused_by_its_path(
    config: Mapping[str, object], at: str, found: str, allowed: str
) -> None:
    (fault,) = refused(config)

    assert fault.at == f"atoll:{at}"
    assert found in fault.found
    assert allowed in fault.allowed
    assert fault.do


def test_faults_of_all_pools_come_at_once() -> None:
    wrong = {"machines": ["h900.large"], "capacity": "reservation"}

    found = [
        fault.at
        for fault in refused(file(AWS, pools={"training": wrong, "replica": wrong, "gateway": {}}))
    ]

    assert found.count("atoll:pools.training.machines") == 1
    assert found.count("atoll:pools.replica.reservation") == 1
    assert found.count("atoll:pools.gateway.machines") == 1


def test_a_gpu_that_nobody_uses_is_advice() -> None:
    config = file(AWS, pools=pools("aws", machines=["g6.12xlarge"]))

    (unused,) = planned(config).advice
    (one_of_four,) = planned(config | {"training": {"device": "gpu"}}).advice

    assert "4 x L4 are paid for, but training.device is cpu" in unused
    assert "a node uses the first" in one_of_four


def test_a_month_at_rest_is_730_hours_and_what_is_allowed_is_enough() -> None:
    hour = planned(file(AWS)).price.usd_per_hour(is_training=False)[1]

    (fault,) = refused(file(AWS, budget={"max_usd_per_month": 1}))
    enough = float(fault.allowed.split()[0])

    assert enough == pytest.approx(730 * hour, abs=0.01)
    assert f"{hour:.4f} an hour for 730 h" in fault.found
    decided = planned(file(AWS, budget={"max_usd_per_month": enough}))
    assert decided.budget.max_usd_per_month == enough


def test_a_month_that_nobody_is_warned_of_is_advice() -> None:
    budget = {"max_usd_per_month": 1000}

    (advice,) = planned(file(AWS, budget=budget)).advice

    assert "nobody is warned" in advice
    assert planned(file(AWS, budget=budget | {"alert_emails": ["a@b.example"]})).advice == ()
