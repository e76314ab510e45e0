"""Finds what a stack has: by tag, by path or name where AWS lists by those, and in its network.

Every name holds the stack's random id, so a name that begins as ours is ours unless its tag says
another's. What a list is asked for is looked for in its answer again: a filter that is not heeded
must not make a stranger's thing ours. The tagging API goes on naming what was deleted, so it is
asked first: what it names and a later list does not is gone.

Not found: records of Route 53. They have no tags, and their zone is the user's.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from infra.clouds.aws.sweeping.api import Api, Row
from infra.clouds.aws.sweeping.faults import code_of
from infra.clouds.aws.sweeping.listing import (
    ALARMS,
    BALANCERS,
    BY_NAME,
    BY_TAG,
    INTERFACES,
    KINDS,
    PARTS,
    TARGET_GROUPS,
    TOPICS,
    Listing,
)
from infra.clouds.aws.tags import TAG_ID
from infra.plan.names import rented_name
from runtime.errors import Missing

GONE_STATES = {"deleted", "terminated"}  # still told, for up to an hour
UNCONFIRMED = "not confirmed: the tagging API alone names it"

Hits = Mapping[str, Mapping[str, str]]  # ARN: tags


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One thing of the stack, as AWS tells it."""

    kind: str
    row: Row


def find(api: Api, stack_id: str) -> list[Thing]:
    """All of a stack, each once."""
    hits = _hits(api, stack_id)
    found: dict[tuple[str, str], Thing] = {}
    for thing in _things(api, stack_id, hits):
        if (thing.row.state or "").lower() not in GONE_STATES:
            found.setdefault((thing.kind, thing.row.id), thing)
    return list(found.values())


def kind_of(arn: str) -> str:
    """Service and kind of thing, as ARNs call them: `ec2:instance`."""
    _, _, service, _, _, rest = arn.split(":", 5)
    kind, has_kind, _ = rest.replace(":", "/", 1).partition("/")
    return f"{service}:{kind if has_kind else ''}"


def _hits(api: Api, stack_id: str) -> Hits:
    rows = api.rows(
        "resourcegroupstaggingapi",
        "get_resources",
        "ResourceTagMappingList[].{id: ResourceARN, tags: Tags}",
        TagFilters=[{"Key": TAG_ID, "Values": [stack_id]}],
    )
    return {row.id: row.tags for row in rows if row.tags.get(TAG_ID) == stack_id}


def _things(api: Api, stack_id: str, hits: Hits) -> Iterator[Thing]:
    yield from _schedules(api, stack_id, hits)
    yield from _alarms(api, stack_id, hits)
    yield from _by_tag(api, stack_id)
    for listing in (BALANCERS, TARGET_GROUPS):
        yield from _balancing(api, listing, stack_id, hits)
    yield from _buckets(api, stack_id, hits)
    yield from _log_groups(api, stack_id, hits)
    yield from _secrets(api, stack_id)
    yield from _roles(api, stack_id, hits)
    yield from _budgets(api, stack_id)
    yield from _of_hits(api, stack_id, hits)


def _by_tag(api: Api, stack_id: str) -> Iterator[Thing]:
    networks: list[str] = []
    tagged = {"Name": f"tag:{TAG_ID}", "Values": [stack_id]}
    for listing in BY_TAG:
        asked = {listing.filters: [tagged], **listing.others}
        for row in api.rows(listing.service, listing.operation, listing.cut, **asked):
            if row.tags.get(TAG_ID) != stack_id:
                continue
            yield Thing(kind=listing.kind, row=row)
            networks += [row.id] if listing.kind == "vpc" else []
    for network in networks:
        # Those of balancers and endpoints carry no tags, and hold the network for minutes.
        inside = {INTERFACES.filters: [{"Name": "vpc-id", "Values": [network]}]}
        for row in api.rows(INTERFACES.service, INTERFACES.operation, INTERFACES.cut, **inside):
            if row.holder == network and row.tags.get(TAG_ID, stack_id) == stack_id:
                yield Thing(kind=INTERFACES.kind, row=row)


def _balancing(api: Api, listing: Listing, stack_id: str, hits: Hits) -> Iterator[Thing]:
    for row in api.rows(listing.service, listing.operation, listing.cut):
        if _is_named(row.id, stack_id) or row.arn in hits:
            yield _tagged(listing.kind, row, hits)


def _alarms(api: Api, stack_id: str, hits: Hits) -> Iterator[Thing]:
    """And what they speak to."""
    begins = {ALARMS.filters: rented_name(stack_id)}
    for row in api.rows(ALARMS.service, ALARMS.operation, ALARMS.cut, **begins):
        if _is_named(row.id, stack_id):
            yield _tagged(ALARMS.kind, row, hits)
    for row in api.rows(TOPICS.service, TOPICS.operation, TOPICS.cut):
        name = row.id.rpartition(":")[2]
        if _is_named(name, stack_id) or row.arn in hits:
            yield _tagged(TOPICS.kind, row.model_copy(update={"id": name}), hits)


def _schedules(api: Api, stack_id: str, hits: Hits) -> Iterator[Thing]:
    cut = "ScheduleGroups[].{id: Name, arn: Arn, state: State}"
    begins = rented_name(stack_id)
    for group in api.rows("scheduler", "list_schedule_groups", cut, NamePrefix=begins):
        if not _is_named(group.id, stack_id):
            continue
        cut = "Schedules[].{id: Name, arn: Arn, holder: GroupName}"
        for row in _if_there(api, "scheduler", "list_schedules", cut, GroupName=group.id):
            if row.holder == group.id:
                yield Thing(kind="schedule", row=row)
        yield _tagged("schedule-group", group, hits)


def _buckets(api: Api, stack_id: str, hits: Hits) -> Iterator[Thing]:
    """By their own tags: whether one is kept is never a matter of what another list still says."""
    names = {arn.rpartition(":")[2] for arn in hits if KINDS.get(kind_of(arn)) == "bucket"}
    for row in api.rows("s3", "list_buckets", "Buckets[].{id: Name}"):
        is_named = _is_named(row.id, stack_id)
        if not is_named and row.id not in names:
            continue
        try:
            [told] = api.rows("s3", "get_bucket_tagging", "[{id: '', tags: TagSet}]", Bucket=row.id)
            tags = told.tags
        except Missing as error:
            if code_of(error) == "NoSuchBucket":
                continue
            tags = {}
        if tags.get(TAG_ID, stack_id if is_named else None) == stack_id:
            arn = f"arn:aws:s3:::{row.id}"
            yield Thing(kind="bucket", row=row.model_copy(update={"tags": tags, "arn": arn}))


def _log_groups(api: Api, stack_id: str, hits: Hits) -> Iterator[Thing]:
    path = f"/atoll/{stack_id}"
    cut = "logGroups[].{id: logGroupName, arn: logGroupArn || arn}"
    for row in api.rows("logs", "describe_log_groups", cut, logGroupNamePrefix=path):
        if f"{row.id}/".startswith(f"{path}/"):
            yield _tagged("log-group", row, hits)


def _secrets(api: Api, stack_id: str) -> Iterator[Thing]:
    rows = api.rows(
        "secretsmanager",
        "list_secrets",
        "SecretList[].{id: Name, arn: ARN, tags: Tags, until: DeletedDate}",
        Filters=[{"Key": "tag-value", "Values": [stack_id]}],  # whichever tag, and as a beginning
        IncludePlannedDeletion=True,
    )
    for row in rows:
        if row.tags.get(TAG_ID) == stack_id:
            yield Thing(kind="secret", row=row)


def _roles(api: Api, stack_id: str, hits: Hits) -> Iterator[Thing]:
    path = f"/atoll/{stack_id}/"
    for kind, operation, cut in (
        (
            "instance-profile",
            "list_instance_profiles",
            "InstanceProfiles[].{id: InstanceProfileName, arn: Arn, holder: Path}",
        ),
        ("role", "list_roles", "Roles[].{id: RoleName, arn: Arn, holder: Path}"),
    ):
        for row in api.rows("iam", operation, cut, PathPrefix=path):
            if (row.holder or "").startswith(path):
                yield _tagged(kind, row, hits)


def _budgets(api: Api, stack_id: str) -> Iterator[Thing]:
    account = api.account()
    cut = "Budgets[].{id: BudgetName}"
    for row in api.rows("budgets", "describe_budgets", cut, AccountId=account):
        if _is_named(row.id, stack_id):
            arn = f"arn:aws:budgets::{account}:budget/{row.id}"
            yield Thing(kind="budget", row=row.model_copy(update={"arn": arn}))


def _of_hits(api: Api, stack_id: str, hits: Hits) -> Iterator[Thing]:
    """What the tagging API alone can name; of a kind that nobody here knows its word has to do."""
    for arn, tags in hits.items():
        told = kind_of(arn)
        kind = KINDS.get(told, told.rstrip(":"))
        if kind == "certificate":
            cut = "[Certificate.{id: CertificateArn, name: DomainName}]"
            rows = _if_there(api, "acm", "describe_certificate", cut, CertificateArn=arn)
        elif kind == "key":
            cut = "[KeyMetadata.{id: KeyId, state: KeyState, until: DeletionDate}]"
            rows = _if_there(api, "kms", "describe_key", cut, KeyId=arn)
        elif _has_list(kind, arn, stack_id) or told in PARTS:
            continue
        else:
            kind = told.rstrip(":")
            rows = [Row(id=arn, name=UNCONFIRMED)]
        for row in rows:
            name = {"id": re.split("[:/]", arn)[-1], "arn": arn}
            yield Thing(kind=kind, row=row.model_copy(update={**name, "tags": tags}))


def _has_list(kind: str, arn: str, stack_id: str) -> bool:
    """Whether a list would have told it, were it still there."""
    return kind in KINDS.values() and (kind not in BY_NAME or stack_id in arn)


def _if_there(api: Api, service: str, operation: str, cut: str, **which: object) -> list[Row]:
    try:
        return api.rows(service, operation, cut, **which)
    except Missing:
        return []


def _tagged(kind: str, row: Row, hits: Hits) -> Thing:
    """Their lists tell no tags: the tagging API's do."""
    return Thing(kind=kind, row=row.model_copy(update={"tags": hits.get(row.arn or "", {})}))


def _is_named(name: str, stack_id: str) -> bool:
    ours = rented_name(stack_id)
    return name == ours or name.startswith(f"{ours}-")
