"""What resources of AWS may not be: tables of type tokens and their checks. Pure.

Not covered: what only an account knows, such as its default encryption or its own block of public
access; types that the kit does not make, but for those by which a rule would be got round.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_network

from infra.policy.documents import attachment_faults, document_faults, principal_faults
from infra.policy.values import UNKNOWN, Properties, at, is_on, items, may_be

Check = Callable[[Properties], Iterator[str]]

BUCKETS = ("aws:s3/bucket:Bucket", "aws:s3/bucketV2:BucketV2")
CLOSERS = ("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",)
ENCRYPTERS = tuple(
    f"aws:s3/bucketServerSideEncryptionConfiguration{v}:BucketServerSideEncryptionConfiguration{v}"
    for v in ("", "V2")
)
SWITCHES = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
PUBLIC_ACLS = ("public-read", "public-read-write", "authenticated-read")
PUBLIC_GROUPS = ("/global/AllUsers", "/global/AuthenticatedUsers")
CIPHERS = ("AES256", "aws:kms", "aws:kms:dsse")

ENDPOINT_PORT, ENDPOINT_ROLE = 443, "balancer"
TCP = ("tcp", "6")
WORLD_PREFIX_BITS = {4: 8, 6: 16}  # shorter ones are parts of the world that together are all of it

# As in infra/clouds/aws, which is more than a pack should import.
TAG_ROLE, TAG_RETAIN = "atoll:role", "atoll:retain"
TAGS = ("Name", "atoll:project", "atoll:stack", "atoll:stack-id", TAG_ROLE)
LAUNCHED = ("instance", "volume", "network-interface")  # by a template, and by nobody in the stack
TEMPLATE, POOL = "aws:ec2/launchTemplate:LaunchTemplate", "aws:autoscaling/group:Group"
TAGGED = {
    *("aws:ec2/vpc:Vpc", "aws:ec2/subnet:Subnet", "aws:ec2/routeTable:RouteTable"),
    *("aws:ec2/internetGateway:InternetGateway", "aws:ec2/natGateway:NatGateway"),
    *("aws:ec2/eip:Eip", "aws:ec2/vpcEndpoint:VpcEndpoint"),
    *("aws:ec2/securityGroup:SecurityGroup", "aws:ec2/instance:Instance", "aws:ebs/volume:Volume"),
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
    *(TEMPLATE, POOL, "aws:ec2/placementGroup:PlacementGroup"),
    *("aws:iam/role:Role", "aws:iam/instanceProfile:InstanceProfile", "aws:iam/policy:Policy"),
    *("aws:lb/loadBalancer:LoadBalancer", "aws:lb/targetGroup:TargetGroup"),
    *("aws:lb/listener:Listener", "aws:acm/certificate:Certificate"),
    *("aws:scheduler/scheduleGroup:ScheduleGroup", "aws:cloudwatch/logGroup:LogGroup"),
    *("aws:cloudwatch/metricAlarm:MetricAlarm", "aws:sns/topic:Topic", "aws:budgets/budget:Budget"),
    *BUCKETS,
}
SIZES: Mapping[str, Sequence[str]] = {POOL: ("maxSize", "desiredCapacity")}


def tag_faults(token: str, properties: Properties) -> Iterator[str]:
    """Of a type that takes tags, and of what a template makes."""
    if token in TAGGED:
        yield from _tag_faults("tags", properties.get("tags"))
    if token == TEMPLATE:
        made = properties.get("tagSpecifications")
        by_kind = {at(one, "resourceType"): at(one, "tags") for one in items(made)}
        for kind in LAUNCHED if made is not UNKNOWN else ():
            yield from _tag_faults(f"tagSpecifications of each {kind}", by_kind.get(kind))


def _tag_faults(where: str, tags: object) -> Iterator[str]:
    if tags is UNKNOWN:
        return
    if isinstance(tags, Mapping):
        found = {name for name, value in tags.items() if value not in (None, "")}
    else:  # those of an Auto Scaling group, which gives them on
        found = {at(one, "key") for one in items(tags) if at(one, "value") not in (None, "")}
    missing = [name for name in TAGS if name not in found and UNKNOWN not in found]
    if missing:
        named = ", ".join(sorted(str(name) for name in found)) or "none"
        yield f"{where}: found {named}; allowed all five; add {', '.join(missing)}"


def _block(properties: Properties) -> Iterator[str]:
    for switch in SWITCHES:
        if not may_be(properties.get(switch), True):
            yield f"{switch}: found {properties.get(switch)}; allowed true; set it"


def _bucket(properties: Properties) -> Iterator[str]:
    yield from _acl(properties)
    yield from _grants("grants", items(properties.get("grants")), ("uri",))
    yield from principal_faults("policy", properties.get("policy"))


def _bucket_acl(properties: Properties) -> Iterator[str]:
    yield from _acl(properties)
    grants = items(at(properties, "accessControlPolicy", "grants"))
    yield from _grants("accessControlPolicy.grants", grants, ("grantee", "uri"))


def _acl(properties: Properties) -> Iterator[str]:
    if properties.get("acl") in PUBLIC_ACLS:
        yield f"acl: found {properties['acl']}; allowed private; remove it"


def _grants(where: str, grants: Sequence[object], path: Sequence[str]) -> Iterator[str]:
    for index, grant in enumerate(grants):
        uri = at(grant, *path)
        if isinstance(uri, str) and uri.endswith(PUBLIC_GROUPS):
            yield f"{where}[{index}]: found {uri}; allowed accounts by id; remove it"


def _bucket_policy(properties: Properties) -> Iterator[str]:
    yield from principal_faults("policy", properties.get("policy"))


def _ingress_rule(properties: Properties) -> Iterator[str]:
    ranges = [properties.get("cidrIpv4"), properties.get("cidrIpv6")]
    role = at(properties, "tags", TAG_ROLE)
    yield from _opened("", ranges, properties, "ipProtocol", role)


def _group(properties: Properties) -> Iterator[str]:
    role = at(properties, "tags", TAG_ROLE)
    for index, one in enumerate(items(properties.get("ingress"))):
        ranges = [*items(at(one, "cidrBlocks")), *items(at(one, "ipv6CidrBlocks"))]
        yield from _opened(f"ingress[{index}].", ranges, one, "protocol", role)


def _group_rule(properties: Properties) -> Iterator[str]:
    """Of the older type, which has no tags that would tell the balancer's."""
    if properties.get("type") == "ingress":
        ranges = [
            *items(properties.get("cidrBlocks")),
            *items(properties.get("ipv6CidrBlocks")),
        ]
        yield from _opened("", ranges, properties, "protocol", None)


def _opened(
    where: str, ranges: Sequence[object], rule: object, protocol: str, role: object
) -> Iterator[str]:
    ports = [at(rule, "fromPort"), at(rule, "toPort")]
    is_endpoint = (
        may_be(at(rule, protocol), *TCP)
        and all(may_be(port, ENDPOINT_PORT) for port in ports)
        and may_be(role, ENDPOINT_ROLE)
    )
    for clients in ranges:
        if isinstance(clients, str) and _is_world(clients) and not is_endpoint:
            found = f"{at(rule, protocol)} {_span(ports)} of {role or 'no role'}"
            yield (
                f"{where}{protocol}: found {found} open to {clients}; allowed tcp {ENDPOINT_PORT} "
                f"of the {ENDPOINT_ROLE}; narrow the range"
            )


def _span(ports: Sequence[object]) -> str:
    named = [f"{port:g}" if isinstance(port, int | float) else "all" for port in ports]
    return named[0] if named[0] == named[1] else "-".join(named)


def _is_world(clients: str) -> bool:
    try:
        network = ip_network(clients, strict=False)
    except ValueError:  # the cloud refuses it
        return False
    return network.prefixlen < WORLD_PREFIX_BITS[network.version]


def _bucket_cipher(properties: Properties) -> Iterator[str]:
    rules = properties.get("rules")
    found = [
        at(rule, "applyServerSideEncryptionByDefault", "sseAlgorithm") for rule in items(rules)
    ]
    if rules is not UNKNOWN and not any(may_be(name, *CIPHERS) for name in found):
        yield f"rules: found {found or 'none'}; allowed {', '.join(CIPHERS)}; choose one"


def _template_disks(properties: Properties) -> Iterator[str]:
    """One that names no disk leaves its encryption to the account."""
    mappings = properties.get("blockDeviceMappings")
    disks = [at(mapping, "ebs") for mapping in items(mappings)]
    if not any(disks) and mappings is not UNKNOWN:
        yield "blockDeviceMappings: found none; allowed an encrypted system disk; add it"
    for index, disk in enumerate(disks):
        yield from _disk(f"blockDeviceMappings[{index}].ebs.", disk)


def _instance_disks(properties: Properties) -> Iterator[str]:
    yield from _disk("rootBlockDevice.", properties.get("rootBlockDevice") or {})
    for index, disk in enumerate(items(properties.get("ebsBlockDevices"))):
        yield from _disk(f"ebsBlockDevices[{index}].", disk)


def _volume(properties: Properties) -> Iterator[str]:
    yield from _disk("", properties)


def _disk(where: str, disk: object) -> Iterator[str]:
    found = at(disk, "encrypted")
    if disk is not None and not may_be(found, True, "true"):
        yield f"{where}encrypted: found {found}; allowed true; set it"


def _metadata(properties: Properties) -> Iterator[str]:
    options = properties.get("metadataOptions")
    if at(options, "httpEndpoint") == "disabled":
        return
    for name, wanted in (("httpTokens", "required"), ("httpPutResponseHopLimit", 1)):
        found = at(options, name)
        if not may_be(found, wanted):
            yield f"metadataOptions.{name}: found {found}; allowed {wanted}; set it"


def _template_addresses(properties: Properties) -> Iterator[str]:
    for index, interface in enumerate(items(properties.get("networkInterfaces"))):
        for name in ("associatePublicIpAddress", "associateCarrierIpAddress"):
            yield from _off(f"networkInterfaces[{index}].{name}", at(interface, name))


def _switched_off(*names: str) -> Check:
    def check(properties: Properties) -> Iterator[str]:
        for name in names:
            yield from _off(name, properties.get(name))

    return check


def _off(where: str, found: object) -> Iterator[str]:
    if is_on(found):
        yield f"{where}: found true; allowed false; remove it"


def _unused(*names: str) -> Check:
    """An address of a gateway for translation is bound to it by the gateway."""

    def check(properties: Properties) -> Iterator[str]:
        for name in names:
            if properties.get(name) is not None:
                yield f"{name}: found a node's; allowed none; remove it"

    return check


def _documents(*names: str) -> Check:
    def check(properties: Properties) -> Iterator[str]:
        for name in names:
            yield from document_faults(name, properties.get(name))

    return check


def _role(properties: Properties) -> Iterator[str]:
    yield from document_faults("assumeRolePolicy", properties.get("assumeRolePolicy"))
    for index, policy in enumerate(items(properties.get("inlinePolicies"))):
        yield from document_faults(f"inlinePolicies[{index}]", at(policy, "policy"))
    yield from attachment_faults("managedPolicyArns", properties.get("managedPolicyArns"))


def _attachment(properties: Properties) -> Iterator[str]:
    yield from attachment_faults("policyArn", properties.get("policyArn"))


def _kept_bucket(properties: Properties) -> Iterator[str]:
    """One that is kept is never destroyed; any other is, with what lies in it."""
    yield from _off("objectLockEnabled", properties.get("objectLockEnabled"))
    is_kept = may_be(at(properties, "tags", TAG_RETAIN), "true")
    if not is_kept and not may_be(properties.get("forceDestroy"), True):
        yield (
            f"forceDestroy: found {properties.get('forceDestroy')}; allowed true, or the tag "
            f"{TAG_RETAIN}; set one of them"
        )


def _lock(_properties: Properties) -> Iterator[str]:
    yield "found a lock on objects; allowed none: nobody can delete them before its date; remove it"


PUBLIC_STORE: Mapping[str, Check] = {
    **dict.fromkeys(BUCKETS, _bucket),
    **dict.fromkeys(CLOSERS, _block),
    "aws:s3/bucketAcl:BucketAcl": _bucket_acl,
    "aws:s3/bucketAclV2:BucketAclV2": _bucket_acl,
    "aws:s3/bucketPolicy:BucketPolicy": _bucket_policy,
    "aws:s3/bucketObjectv2:BucketObjectv2": _acl,
    "aws:s3/bucketObject:BucketObject": _acl,
}
OPEN_PORT: Mapping[str, Check] = {
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _ingress_rule,
    "aws:ec2/securityGroupRule:SecurityGroupRule": _group_rule,
    "aws:ec2/securityGroup:SecurityGroup": _group,
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": _group,
}
ENCRYPTION: Mapping[str, Check] = {
    **dict.fromkeys(ENCRYPTERS, _bucket_cipher),
    TEMPLATE: _template_disks,
    "aws:ec2/instance:Instance": _instance_disks,
    "aws:ebs/volume:Volume": _volume,
}
METADATA: Mapping[str, Check] = {TEMPLATE: _metadata, "aws:ec2/instance:Instance": _metadata}
PUBLIC_ADDRESS: Mapping[str, Check] = {
    TEMPLATE: _template_addresses,
    "aws:ec2/instance:Instance": _switched_off("associatePublicIpAddress"),
    # Balancers and gateways for translation bring their addresses: no subnet need give any.
    "aws:ec2/subnet:Subnet": _switched_off("mapPublicIpOnLaunch"),
    "aws:ec2/eip:Eip": _unused("instance", "networkInterface"),
    "aws:ec2/eipAssociation:EipAssociation": _unused("instanceId", "networkInterfaceId"),
}
RIGHTS: Mapping[str, Check] = {
    "aws:iam/role:Role": _role,
    **{
        f"aws:iam/{kind}:{kind[0].upper()}{kind[1:]}": _documents("policy")
        for kind in ("policy", "rolePolicy", "userPolicy", "groupPolicy")
    },
    **{
        f"aws:iam/{kind}Attachment:{kind[0].upper()}{kind[1:]}Attachment": _attachment
        for kind in ("policy", "rolePolicy", "userPolicy", "groupPolicy")
    },
}
UNDELETABLE: Mapping[str, Check] = {
    **dict.fromkeys(BUCKETS, _kept_bucket),
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration": _lock,
    "aws:lb/loadBalancer:LoadBalancer": _switched_off("enableDeletionProtection"),
    TEMPLATE: _switched_off("disableApiTermination"),
    "aws:ec2/instance:Instance": _switched_off("disableApiTermination"),
    POOL: _switched_off("protectFromScaleIn"),
    "aws:cloudwatch/logGroup:LogGroup": _switched_off("skipDestroy", "deletionProtectionEnabled"),
}
