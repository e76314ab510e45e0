"""A stack that stands in moto's AWS: stores, pools, a balancer and timers, and its marker here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.checkout import StackMarker, write_marker
from infra.clouds.aws.session import open_bucket_in
from infra.clouds.description import PoolDescription, StackDescription, write_description
from infra.plan.names import Role
from runtime.coordination.log import PoolLog, Presence
from runtime.objects import Store
from tests.infra.clouds.aws.interceptor import pairs
from tests.infra.clouds.aws.planted import IMAGE, MACHINE, REGION, TRUST, ZONE, Stack

RUN_HOURS = 8.0
ENDPOINT = "https://models.example.org"
POOLS: Mapping[Role, int] = {"gateway": 1, "replica": 2, "training": 2}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What `up` has made of it; each part may be left out."""

    stack: Stack
    home: Path
    name: str = "aws-small"

    @property
    def marker(self) -> StackMarker:
        """As the Proof writes it."""
        return StackMarker(
            stack=self.name,
            stack_id=self.stack.id,
            project="atoll",
            home=str(self.home),
            cloud="aws",
            region=REGION,
            is_complete=True,
        )

    def make(self) -> None:
        """All of it."""
        write_marker(self.marker)
        self.make_stores()
        for pool, size in POOLS.items():
            self.make_pool(pool, size)
        self.make_timers()
        write_description(self.store("control"), self.description)

    @property
    def description(self) -> StackDescription:
        """As the Guard writes it."""
        return StackDescription(
            stack=self.name,
            stack_id=self.stack.id,
            cloud="aws",
            region=REGION,
            version="0.1.0",
            endpoint_url=ENDPOINT,
            run_hours=RUN_HOURS,
            pools=tuple(
                PoolDescription(
                    pool=pool,
                    role=pool,
                    nodes_at_rest=0 if pool == "training" else size,
                    nodes_max=size,
                )
                for pool, size in POOLS.items()
            ),
        )

    def make_stores(self) -> None:
        """Those that the commands read."""
        s3 = self.stack.client("s3")
        for role in ("control", "checkpoints", "models"):
            s3.create_bucket(
                Bucket=self.stack.name(role),
                CreateBucketConfiguration={"LocationConstraint": REGION},
            )

    def make_pool(self, pool: Role, size: int) -> None:
        """A group with as many machines as it has at rest."""
        tags = pairs(self.stack.tags(pool))
        template = self.stack.client("ec2").create_launch_template(
            LaunchTemplateName=self.stack.name(pool),
            LaunchTemplateData={"ImageId": IMAGE, "InstanceType": MACHINE},
        )["LaunchTemplate"]["LaunchTemplateId"]
        self.stack.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=self.stack.name(pool),
            MinSize=0,
            MaxSize=size if pool == "training" else size + 1,
            DesiredCapacity=0 if pool == "training" else size,
            LaunchTemplate={"LaunchTemplateId": template},
            AvailabilityZones=[ZONE],
            Tags=[{**pair, "PropagateAtLaunch": True} for pair in tags],
        )

    def make_balancer(self) -> str:
        """With a plain listener; the name that AWS gives it."""
        ec2, elb = self.stack.client("ec2"), self.stack.client("elbv2")
        subnets = ec2.describe_subnets()["Subnets"][:2]
        balancer = elb.create_load_balancer(
            Name=self.stack.name(), Subnets=[one["SubnetId"] for one in subnets]
        )
        [made] = balancer["LoadBalancers"]
        gateways = elb.create_target_group(
            Name=self.stack.name("gateway"),
            Protocol="HTTP",
            Port=8080,
            VpcId=subnets[0]["VpcId"],
        )["TargetGroups"][0]["TargetGroupArn"]
        elb.create_listener(
            LoadBalancerArn=made["LoadBalancerArn"],
            Protocol="HTTP",
            Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": gateways}],
        )
        return str(made["DNSName"])

    def make_timers(self) -> None:
        """Their group and their role, without a schedule."""
        self.stack.client("scheduler").create_schedule_group(Name=self.stack.name())
        self.stack.client("iam").create_role(
            RoleName=self.stack.name("timer"),
            Path=f"/atoll/{self.stack.id}/",
            AssumeRolePolicyDocument=TRUST,
        )

    def store(self, role: str) -> Store:
        """One of its buckets."""
        return open_bucket_in(self.stack.session, f"s3://{self.stack.name(role)}", REGION)

    def log(self) -> PoolLog:
        """The training pool's log."""
        return PoolLog(self.store("control"), "training", "test")

    def wanted(self, pool: Role = "training") -> int:
        """As Auto Scaling has it."""
        return int(str(self._group(pool)["DesiredCapacity"]))

    def machines(self, pool: Role) -> list[str]:
        """Ids of the machines of a pool."""
        members = self._group(pool)["Instances"]
        assert isinstance(members, list)
        return sorted(member["InstanceId"] for member in members)

    def timers(self) -> dict[str, Mapping[str, object]]:
        """All schedules of the stack, by name."""
        scheduler = self.stack.client("scheduler")
        listed = scheduler.list_schedules(GroupName=self.stack.name())["Schedules"]
        return {
            one["Name"]: scheduler.get_schedule(GroupName=self.stack.name(), Name=one["Name"])
            for one in listed
        }

    def say(self, node: str, pool: Role = "training", **said: object) -> None:
        """A node's presence, written just now."""
        presence = {
            "node": node,
            "pool": pool,
            "role": pool,
            "address": "10.0.16.4",
            "boot_id": "b",
            "pid": 1,
            "state": "starting",
            **said,
        }
        text = Presence.model_validate(presence).model_dump_json()
        self.store("control").put(f"nodes/{node}", text.encode())

    def _group(self, pool: Role) -> Mapping[str, object]:
        told = self.stack.client("autoscaling").describe_auto_scaling_groups(
            AutoScalingGroupNames=[self.stack.name(pool)]
        )
        group: Mapping[str, object] = told["AutoScalingGroups"][0]
        return group
