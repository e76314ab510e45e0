"""`atoll doctor --cloud aws`: what stands in a stack's way is told with what to do, and no more."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import pytest

from infra.checkout import StackMarker, write_marker
from infra.cli.main import main
from infra.clouds.aws.preflight import preflight
from infra.clouds.checks import Check
from infra.plan.facts import UNSEEN
from infra.plan.plan import plan
from infra.plan.spec import StackSpec
from tests.infra.clouds.aws.interceptor import Interceptor, pairs

# Importing a whole module of the SDK warns of each of its old classes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Answer = Mapping[str, object]
Said = pytest.CaptureFixture[str]

REGION, EAST = "eu-central-1", "us-east-1"
OURS = "5e1f0a2b"
RESERVATION = "cr-0123456789abcdef0"
CERTIFICATE = f"arn:aws:acm:{REGION}:123456789012:certificate/0a1b"
CLUSTER: Answer = {"cloud": "aws", "region": REGION, "zones": [f"{REGION}a", f"{REGION}b"]}
POOLS: Answer = {
    "training": {"machines": ["g6.xlarge", "g6.2xlarge"], "capacity": "spot"},
    "replica": {"machines": ["c7i.2xlarge"]},
    "gateway": {"machines": ["c7i.large"]},
}
SMALL: Answer = {
    "cluster": CLUSTER,
    "training": {"device": "gpu", "nodes": 2},
    "serving": {"replicas": 2, "gateways": 2},
    "access": {"allowed_ranges": ["203.0.113.0/24"]},
    "pools": POOLS,
}
RESERVED: Answer = {
    **SMALL,
    "cluster": {"cloud": "aws", "region": EAST, "zones": [f"{EAST}a", f"{EAST}b"]},
    "training": {"device": "gpu", "nodes": 4},
    "pools": {
        **POOLS,
        "training": {
            "machines": ["p5.48xlarge"],
            "capacity": "reservation",
            "reservation": RESERVATION,
            "fabric": True,
        },
    },
}
STANDARD, STANDARD_SPOT, G_SPOT = "L-1216C47A", "L-34B43A08", "L-3819A6DF"
NETWORKS, ADDRESSES, TRANSLATIONS = "L-F678F1CE", "L-0263D0A3", "L-FE5A380F"
ON_CPU = ["--cloud", "aws", "--stack", "aws-cpu"]
NEEDS = {STANDARD: 3 * 8 + 3 * 2, G_SPOT: 2 * 8, ADDRESSES: 2}  # vCPUs of SMALL, with a roll


@dataclass
class Account:
    """moto, and what it lacks: quotas of EC2, public parameters of images, reservations."""

    session: boto3.Session
    interceptor: Interceptor
    quotas: dict[str, float] = field(default_factory=lambda: dict(NEEDS))
    defaults: dict[str, float] = field(default_factory=dict)
    reservations: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.interceptor.answers |= {
            "service-quotas.GetServiceQuota": lambda asked: self._quota(asked, self.quotas),
            "service-quotas.GetAWSDefaultServiceQuota": lambda asked: self._quota(
                asked, self.defaults
            ),
            "ssm.GetParameter": lambda _: {"Parameter": {"Value": "ami-0a1b"}},
            "ec2.DescribeCapacityReservations": lambda _: {
                "CapacityReservations": self.reservations
            },
        }

    def look(self, told: Mapping[str, object] = SMALL, own: str = OURS) -> dict[str, Check]:
        """All checks of a stack by their names."""
        spec = StackSpec.model_validate(told)
        return {
            check.name: check
            for check in preflight(lambda _: self.session, spec, plan(spec, UNSEEN), {own})
        }

    def run(self, machine: str, count: int = 1, stack: str = "", **more: object) -> list[str]:
        """Start machines that somebody has."""
        ec2 = self.session.client("ec2", REGION)
        told = ec2.run_instances(
            ImageId="ami-12c6146b",
            InstanceType=machine,
            MinCount=count,
            MaxCount=count,
            **tagged("instance", stack),
            **more,
        )
        return [one["InstanceId"] for one in told["Instances"]]

    def _quota(self, asked: Mapping[str, object], known: Mapping[str, float]) -> Answer | None:
        body = asked["body"]
        assert isinstance(body, str | bytes)
        named = json.loads(body)
        if named["ServiceCode"] == "vpc":
            return None
        code = named["QuotaCode"]
        if code not in known:
            error = {"Code": "NoSuchResourceException", "Message": "said AWS"}
            return {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}
        return {"Quota": {"QuotaName": f"name of {code}", "Value": known[code]}}


def tagged(kind: str, stack_id: str) -> Mapping[str, object]:
    """Parameters of a call that makes something of a stack, or of nobody's."""
    tags = {"atoll:stack-id": stack_id} if stack_id else {"Name": "theirs"}
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": pairs(tags)}]}


@pytest.fixture
def account(aws: boto3.Session, interceptor: Interceptor) -> Account:
    """One that carries SMALL exactly."""
    return Account(session=aws, interceptor=interceptor)


def faults(checks: Mapping[str, Check]) -> set[str]:
    """Names of what is not as it must be."""
    return {name for name, check in checks.items() if check.is_ok is False}


def test_an_account_that_just_carries_the_stack_is_fine(account: Account) -> None:
    checks = account.look()

    assert [name for name in checks if checks[name].is_ok is not True] == []
    assert list(checks) == [
        "identity",
        "region",
        "machines of training",
        "machines of replica",
        "machines of gateway",
        f"quota {G_SPOT}",
        f"quota {STANDARD}",
        f"quota {NETWORKS}",
        f"quota {ADDRESSES}",
        f"quota {TRANSLATIONS}",
        "image of training",
        "image of replica, gateway",
    ]
    assert checks["identity"].found.startswith("account 123456789012, arn:aws:sts::")
    assert checks["image of training"].found.startswith("ami-0a1b, the newest of /aws/service/deep")


@pytest.mark.parametrize("code", NEEDS)
def test_a_quota_that_is_one_short_is_told_with_the_command_that_requests_it(
    account: Account, code: str
) -> None:
    account.quotas[code] -= 1

    checks = account.look()

    assert faults(checks) == {f"quota {code}"}
    short, unit = checks[f"quota {code}"], "" if code == ADDRESSES else " vCPUs"
    assert short.found == (
        f"name of {code}: {NEEDS[code] - 1}{unit}, of which others use 0; the stack needs up to "
        f"{NEEDS[code]}"
    )
    assert short.do == (
        "aws service-quotas request-service-quota-increase --service-code ec2 "
        f"--quota-code {code} --desired-value {NEEDS[code]} --region {REGION}"
    )


def test_what_others_run_there_is_not_to_be_had_and_what_the_stack_has_need_not_be(
    account: Account,
) -> None:
    account.run("c7i.large", count=3)
    account.run("m5.xlarge")  # not in our table
    account.run("g5.xlarge")  # on demand: another quota
    account.run("r6i.large", InstanceMarketOptions={"MarketType": "spot"})
    account.run("c7i.2xlarge", count=2, stack=OURS)
    account.run("c7i.large", stack="0badc0de")
    stopped = account.run("c7i.2xlarge")
    account.session.client("ec2", REGION).stop_instances(InstanceIds=stopped)

    checks = account.look()

    assert faults(checks) == {f"quota {STANDARD}"}
    assert "of which others use 12;" in checks[f"quota {STANDARD}"].found
    assert f"--desired-value {30 + 12} " in checks[f"quota {STANDARD}"].do


def test_a_reservation_is_in_use_as_a_whole_and_its_machines_are_not_counted_twice(
    account: Account,
) -> None:
    account.reservations = [
        reservation(id="cr-1", type="m7i.large", total=5, free=4),
        reservation(id="cr-2", type="m7i.large", state="expired"),
        reservation(id="cr-3", type="m7i.large", kind="capacity-block"),
    ]
    account.interceptor.answers["ec2.DescribeInstances"] = lambda _: instances(
        *[{"InstanceType": "m7i.large", "CapacityReservationId": f"cr-{n}"} for n in (1, 2)],
        {"InstanceType": "m7i.large", "InstanceLifecycle": "capacity-block"},
    )

    checks = account.look()

    assert "of which others use 12;" in checks[f"quota {STANDARD}"].found


def test_where_the_account_has_no_quota_of_its_own_the_default_counts(account: Account) -> None:
    account.defaults[STANDARD] = account.quotas.pop(STANDARD) - 1
    account.quotas.pop(G_SPOT)

    checks = account.look()

    assert faults(checks) == {f"quota {STANDARD}"}
    assert checks[f"quota {G_SPOT}"].is_ok is None


def test_networks_addresses_and_translations_of_others_count_and_those_of_the_stack_do_not(
    account: Account,
) -> None:
    ec2 = account.session.client("ec2", REGION)
    account.quotas[ADDRESSES] = 7
    zones = {one["AvailabilityZone"]: one for one in ec2.describe_subnets()["Subnets"]}
    for owner in (OURS, *("",) * 5):
        address = ec2.allocate_address(Domain="vpc", **tagged("elastic-ip", owner))
        ec2.create_nat_gateway(
            SubnetId=zones[f"{REGION}b"]["SubnetId"],
            AllocationId=address["AllocationId"],
            **tagged("natgateway", owner),
        )
        ec2.create_vpc(CidrBlock="10.1.0.0/16", **tagged("vpc", owner))

    checks = account.look()

    assert faults(checks) == {f"quota {NETWORKS}", f"quota {TRANSLATIONS}"}
    assert "others use 6;" in checks[f"quota {NETWORKS}"].found  # the default one too
    assert "--service-code vpc" in checks[f"quota {TRANSLATIONS}"].do
    assert "--desired-value 6 " in checks[f"quota {TRANSLATIONS}"].do


def test_a_machine_that_a_zone_has_not_is_told_with_zones_that_have_it(account: Account) -> None:
    cluster = {**CLUSTER, "region": EAST, "zones": [f"{EAST}a", f"{EAST}e"]}

    checks = account.look({**SMALL, "cluster": cluster})

    assert faults(checks) == {"machines of replica", "machines of gateway"}  # training: in a
    lacking = checks["machines of replica"]
    assert lacking.found == "AWS offers no c7i.2xlarge in us-east-1e"
    assert "atoll:pools.replica.machines" in lacking.do
    assert lacking.do.endswith("us-east-1a, us-east-1b, us-east-1c, us-east-1d, us-east-1f")


def test_an_image_that_is_not_published_there_is_told(account: Account) -> None:
    del account.interceptor.answers["ssm.GetParameter"]

    checks = account.look()

    assert faults(checks) == {"image of training", "image of replica, gateway"}
    assert checks["image of training"].found.startswith(f"{REGION} has no /aws/service/deeplearn")


def instances(*told: Answer) -> Answer:
    """As AWS lists them."""
    return {"Reservations": [{"Instances": list(told)}]}


def reservation(**told: object) -> Answer:
    """As AWS lists one."""
    named = {
        "id": "CapacityReservationId",
        "state": "State",
        "type": "InstanceType",
        "zone": "AvailabilityZone",
        "total": "TotalInstanceCount",
        "free": "AvailableInstanceCount",
        "kind": "ReservationType",
    }
    whole = {
        "id": RESERVATION,
        "state": "active",
        "type": "p5.48xlarge",
        "zone": f"{EAST}a",
        "total": 4,
        "free": 4,
        "kind": "default",
        **told,
    }
    return {named[key]: value for key, value in whole.items()}


def test_a_reservation_that_holds_the_pool_is_fine_and_asks_for_no_quota(account: Account) -> None:
    account.reservations = [reservation()]

    checks = account.look(RESERVED)

    assert faults(checks) == set()
    assert checks[f"reservation {RESERVATION}"].found == (
        "active, 4 of 4 p5.48xlarge free in us-east-1a"
    )
    assert "quota L-417A185B" not in checks


@pytest.mark.parametrize(
    ("change", "do"),
    [
        ({"id": "cr-of-another"}, "name one that it has in atoll:pools.training.reservation"),
        ({"state": "expired"}, "use one that is active"),
        ({"type": "p4d.24xlarge"}, "reserve p5.48xlarge, or name p4d.24xlarge in"),
        ({"zone": f"{EAST}b"}, "reserve in us-east-1a, or change atoll:cluster.zones"),
        ({"kind": "capacity-block"}, "name one on demand:"),
        ({"free": 3}, "4 are needed at once: make it larger, or the pool smaller"),
    ],
)
def test_a_reservation_that_does_not_is_told_with_why(
    account: Account, change: Mapping[str, object], do: str
) -> None:
    account.reservations = [reservation(**change)]

    checks = account.look(RESERVED)

    assert faults(checks) == {f"reservation {RESERVATION}"}
    assert do in checks[f"reservation {RESERVATION}"].do


def test_nodes_of_the_stack_in_its_reservation_leave_it_free_for_the_stack(
    account: Account,
) -> None:
    account.reservations = [reservation(free=3)]
    mine = {
        "InstanceType": "p5.48xlarge",
        "CapacityReservationId": RESERVATION,
        "Tags": pairs({"atoll:stack-id": OURS}),
    }
    account.interceptor.answers["ec2.DescribeInstances"] = lambda _: instances(mine)

    assert faults(account.look(RESERVED)) == set()


def provided(arn: str = CERTIFICATE) -> Mapping[str, object]:
    """A stack with a certificate of the user's own."""
    access = {"tls": "provided", "certificate": arn, "allowed_ranges": ["0.0.0.0/0"]}
    return {**SMALL, "access": access}


@pytest.mark.parametrize(
    ("state", "is_ok"), [("ISSUED", True), ("PENDING_VALIDATION", False), ("EXPIRED", False)]
)
def test_a_certificate_must_be_issued(account: Account, state: str, is_ok: bool) -> None:
    account.interceptor.answers["acm.DescribeCertificate"] = lambda _: {
        "Certificate": {"CertificateArn": CERTIFICATE, "DomainName": "a.example", "Status": state}
    }

    check = account.look(provided())["certificate"]

    assert check.is_ok is is_ok
    assert check.found == f"{CERTIFICATE} for a.example is {state}"


def test_a_certificate_that_is_elsewhere_or_nowhere_is_told(account: Account) -> None:
    elsewhere = account.look(provided(CERTIFICATE.replace(REGION, EAST)))["certificate"]
    assert (elsewhere.is_ok, f"is of {EAST}" in elsewhere.found) == (False, True)
    assert f"name one of {REGION}" in elsewhere.do
    assert account.interceptor.count("acm.DescribeCertificate") == 0

    nowhere = account.look(provided())["certificate"]
    assert (nowhere.is_ok, nowhere.found) == (False, f"the account has no {CERTIFICATE}")


def test_the_zone_of_a_managed_name_must_be_there_once_and_public(account: Account) -> None:
    route53 = account.session.client("route53", REGION)
    access = {"tls": "managed", "domain": "models.example.org", "allowed_ranges": ["0.0.0.0/0"]}
    managed, name = {**SMALL, "access": access}, "zone of models.example.org"
    [network] = account.session.client("ec2", REGION).describe_vpcs()["Vpcs"]
    inside = {"VPCRegion": REGION, "VPCId": network["VpcId"]}
    for zone in ("models.example.org", "an-example.org"):
        route53.create_hosted_zone(Name=zone, CallerReference=zone)
    route53.create_hosted_zone(
        Name="example.org",
        CallerReference="private",
        VPC=inside,
        HostedZoneConfig={"PrivateZone": True},
    )

    none = account.look(managed)[name]
    route53.create_hosted_zone(Name="example.org", CallerReference="1")
    one = account.look(managed)[name]
    route53.create_hosted_zone(Name="example.org", CallerReference="2")
    two = account.look(managed)[name]

    assert (none.is_ok, one.is_ok, two.is_ok) == (False, True, False)
    assert none.found == "Route 53 has no public zone example.org"
    assert "aws route53 create-hosted-zone --name example.org " in none.do
    assert "several public zones example.org" in two.found


def test_without_the_right_to_see_quotas_these_are_unknown_and_all_else_is_looked_at(
    account: Account,
) -> None:
    account.interceptor.refuse(
        "service-quotas.GetServiceQuota", "AccessDeniedException", status=400
    )

    checks = account.look()

    unknown = {name: check for name, check in checks.items() if check.is_ok is not True}
    assert set(unknown) == {name for name in checks if name.startswith("quota ")}
    for check in unknown.values():
        assert check.is_ok is None
        assert check.do.startswith("allow servicequotas:GetServiceQuota to who you are")


@pytest.mark.slow
def test_no_right_that_is_missing_counts_as_a_fault_and_each_is_named(account: Account) -> None:
    account.look(provided())
    named = {"service-quotas": "servicequotas"}
    calls = dict.fromkeys(account.interceptor.asked)

    for call in [call for call in calls if not call.startswith("sts.")]:
        was = account.interceptor.answers.get(call, lambda _: None)
        code = "UnauthorizedOperation" if call.startswith("ec2.") else "AccessDeniedException"
        account.interceptor.refuse(call, code, status=403)

        checks = account.look(provided())

        service, operation = call.split(".")
        unknown = [check for check in checks.values() if check.is_ok is None]
        assert faults(checks) <= {"certificate"}, call
        assert unknown, call
        for check in unknown:
            assert f"allow {named.get(service, service)}:{operation} to" in check.do
        account.interceptor.answers[call] = was


def test_aws_that_does_not_answer_a_question_leaves_it_open(account: Account) -> None:
    account.interceptor.refuse("ec2.DescribeInstances", "RequestLimitExceeded", status=503)

    checks = account.look()

    assert faults(checks) == set()
    assert checks[f"quota {STANDARD}"].is_ok is None
    assert "repeat later" in checks[f"quota {STANDARD}"].do


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"])
def test_credentials_that_aws_does_not_take_end_the_look(account: Account, code: str) -> None:
    account.interceptor.refuse("sts.GetCallerIdentity", code, status=403)

    checks = account.look()

    assert set(checks) == faults(checks) == {"identity"}
    assert code in checks["identity"].found
    assert "log in again" in checks["identity"].do
    assert {call.partition(".")[0] for call in account.interceptor.asked} == {"sts"}


def test_a_region_that_the_account_has_not_enabled_is_told_from_bad_credentials(
    account: Account,
) -> None:
    def elsewhere(asked: Mapping[str, object]) -> Answer | None:
        context = asked["context"]
        assert isinstance(context, dict)
        if context["client_region"] == EAST:
            return None
        error = {"Code": "InvalidClientTokenId", "Message": "said AWS"}
        return {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 403}}

    account.interceptor.answers["sts.GetCallerIdentity"] = elsewhere

    checks = account.look()

    assert list(checks) == ["identity", "region"]
    assert faults(checks) == {"region"}
    assert f"{REGION} is not enabled for the account" in checks["region"].found
    assert f"aws account enable-region --region-name {REGION}" in checks["region"].do


def test_an_aws_that_nobody_reaches_is_a_fault_of_the_first_check_alone(account: Account) -> None:
    account.interceptor.refuse("sts.GetCallerIdentity", "InternalError", status=500)

    checks = account.look()

    assert set(checks) == faults(checks) == {"identity"}


@pytest.fixture
def at_home(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    """An account that just carries aws-cpu, as the command finds it; no stack in the home."""
    account.quotas |= {STANDARD: 8, STANDARD_SPOT: 4}
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path))
    monkeypatch.setattr("infra.clouds.aws.session.open_session", lambda _: account.session)
    return account


@pytest.mark.usefixtures("at_home")
def test_the_command_tells_programs_all_checks(capsys: Said) -> None:
    code = main(["doctor", *ON_CPU, "--json"])

    checks = json.loads(capsys.readouterr().out)["checks"]
    assert code == 0
    assert [check["name"] for check in checks[:2]] == ["stack file", "identity"]
    assert {check["state"] for check in checks} == {"ok"}


def test_the_command_tells_people_what_to_type_in_a_line_of_its_own(
    at_home: Account, capsys: Said
) -> None:
    at_home.quotas[STANDARD] = 5

    code = main(["doctor", *ON_CPU])

    lines = capsys.readouterr().out.splitlines()
    [number] = [n for n, line in enumerate(lines) if line.startswith("fault ")]
    assert code == 1
    assert lines[number].startswith(f"fault   quota {STANDARD}: name of {STANDARD}: 5 vCPUs")
    assert lines[number + 1].strip() == (
        "aws service-quotas request-service-quota-increase --service-code ec2 "
        f"--quota-code {STANDARD} --desired-value 8 --region {REGION}"
    )
    assert lines[-1].endswith("1 fault, 0 unknown")


def test_what_nobody_could_tell_is_no_fault_of_the_account(at_home: Account, capsys: Said) -> None:
    at_home.interceptor.refuse("ssm.GetParameter", "AccessDeniedException")

    assert main(["doctor", *ON_CPU]) == 0

    said = capsys.readouterr().out
    assert "unknown image of training, replica, gateway: ssm:GetParameter" in said
    assert "allow ssm:GetParameter to" in said


def test_the_command_knows_the_stack_that_stands(at_home: Account, tmp_path: Path) -> None:
    at_home.run("c7i.large", stack=OURS)
    assert main(["doctor", *ON_CPU]) == 1

    for stack_id, stack in ((OURS, "aws-cpu"), ("0badc0de", "aws-small")):
        write_marker(
            StackMarker(
                stack=stack,
                stack_id=stack_id,
                project="atoll",
                home=str(tmp_path),
                cloud="aws",
                region=REGION,
            )
        )

    assert main(["doctor", *ON_CPU]) == 0


@pytest.mark.usefixtures("aws")
def test_without_credentials_the_command_says_how_to_give_some(
    capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    assert main(["doctor", *ON_CPU, "--json"]) == 1

    read, identity = json.loads(capsys.readouterr().out)["checks"]
    assert (read["state"], identity["name"], identity["state"]) == ("ok", "identity", "fault")
    assert identity["do"] == "run: aws configure"


@pytest.mark.parametrize(
    ("stack", "found", "do"),
    [
        ("local", "cluster.cloud is local", "name a stack of aws with --stack, such as aws-cpu"),
        ("nowhere", "allowed aws-cpu, aws-multi-node, aws-small, local", "correct the stack file"),
    ],
)
def test_a_stack_that_is_not_to_stand_there_is_told_before_anybody_is_asked(
    stack: str, found: str, do: str, capsys: Said
) -> None:
    assert main(["doctor", "--cloud", "aws", "--stack", stack, "--json"]) == 1

    [check] = json.loads(capsys.readouterr().out)["checks"]
    assert (check["name"], check["state"], check["do"]) == ("stack file", "fault", do)
    assert found in check["found"]


def test_a_cloud_that_cannot_be_looked_at_is_refused(capsys: Said) -> None:
    assert main(["doctor", "--cloud", "gcp", "--stack", "aws-cpu"]) == 1

    assert "doctor --cloud: found gcp; allowed aws;" in capsys.readouterr().err
