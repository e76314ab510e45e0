"""What a deployer asks of AWS for each type of resource: to make, read, change, delete it. Pure.

Actions of pulumi-aws 7, which is Terraform's provider 6, with what AWS checks along: a balancer's
subnets, a group's right to start its template. Read 2026-11.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """Actions, by what AWS lets them be limited to."""

    asks: Sequence[str] = ()  # lists, which name no resource
    makes: Sequence[str] = ()  # something that has the kit's tags from the start
    changes: Sequence[str] = ()  # on what is the kit's by tag, name or path


# On all of EC2 that has tags.
TAGS = ("ec2:CreateTags", "ec2:DeleteTags")
BALANCING_TAGS = ("elasticloadbalancing:AddTags", "elasticloadbalancing:RemoveTags")


def _ec2(*, asks: str = "", makes: str = "", changes: str = "") -> Needs:
    """Of EC2, whose names stand without the service."""

    def named(words: str) -> tuple[str, ...]:
        return tuple(f"ec2:{word}" for word in words.split())

    return Needs(asks=named(asks), makes=named(makes), changes=(*named(changes), *TAGS))


def _s3(*words: str) -> Needs:
    return Needs(changes=tuple(f"s3:{word}" for word in words))


def _iam(*words: str) -> Needs:
    return Needs(changes=tuple(f"iam:{word}" for word in words))


NETWORK: Mapping[str, Needs] = {
    "ec2.Vpc": _ec2(
        asks="DescribeVpcs DescribeVpcAttribute DescribeNetworkAcls DescribeRouteTables "
        "DescribeSecurityGroups",
        makes="CreateVpc",
        changes="ModifyVpcAttribute DeleteVpc",
    ),
    "ec2.DefaultSecurityGroup": _ec2(
        asks="DescribeSecurityGroups DescribeSecurityGroupRules",
        changes="RevokeSecurityGroupIngress RevokeSecurityGroupEgress",
    ),
    "ec2.InternetGateway": _ec2(
        asks="DescribeInternetGateways",
        makes="CreateInternetGateway",
        changes="AttachInternetGateway DetachInternetGateway DeleteInternetGateway",
    ),
    "ec2.Route": _ec2(asks="DescribeRouteTables", changes="CreateRoute ReplaceRoute DeleteRoute"),
    "ec2.RouteTable": _ec2(
        asks="DescribeRouteTables",
        makes="CreateRouteTable",
        changes="DisassociateRouteTable DeleteRouteTable",
    ),
    "ec2.RouteTableAssociation": _ec2(
        asks="DescribeRouteTables",
        changes="AssociateRouteTable ReplaceRouteTableAssociation DisassociateRouteTable",
    ),
    "ec2.Subnet": _ec2(
        asks="DescribeSubnets DescribeNetworkInterfaces",
        makes="CreateSubnet",
        changes="ModifySubnetAttribute DeleteSubnet DetachNetworkInterface DeleteNetworkInterface",
    ),
    "ec2.Eip": _ec2(
        asks="DescribeAddresses DescribeAddressesAttribute",
        makes="AllocateAddress",
        changes="DisassociateAddress ReleaseAddress",
    ),
    "ec2.NatGateway": _ec2(
        asks="DescribeNatGateways", makes="CreateNatGateway", changes="DeleteNatGateway"
    ),
    "ec2.VpcEndpoint": _ec2(
        asks="DescribeVpcEndpoints DescribePrefixLists DescribeVpcEndpointServices",
        makes="CreateVpcEndpoint",
        changes="ModifyVpcEndpoint DeleteVpcEndpoints",
    ),
    "ec2.SecurityGroup": _ec2(
        asks="DescribeSecurityGroups DescribeNetworkInterfaces",
        makes="CreateSecurityGroup",
        changes="RevokeSecurityGroupIngress RevokeSecurityGroupEgress DeleteSecurityGroup "
        "DetachNetworkInterface DeleteNetworkInterface",
    ),
    "vpc.SecurityGroupIngressRule": _ec2(
        asks="DescribeSecurityGroupRules",
        makes="AuthorizeSecurityGroupIngress",
        changes="ModifySecurityGroupRules RevokeSecurityGroupIngress",
    ),
    "vpc.SecurityGroupEgressRule": _ec2(
        asks="DescribeSecurityGroupRules",
        makes="AuthorizeSecurityGroupEgress",
        changes="ModifySecurityGroupRules RevokeSecurityGroupEgress",
    ),
}
MACHINES: Mapping[str, Needs] = {
    "ec2.LaunchTemplate": _ec2(
        asks="DescribeLaunchTemplates DescribeLaunchTemplateVersions",
        makes="CreateLaunchTemplate",
        changes="CreateLaunchTemplateVersion ModifyLaunchTemplate DeleteLaunchTemplate",
    ),
    "ec2.PlacementGroup": _ec2(
        asks="DescribePlacementGroups", makes="CreatePlacementGroup", changes="DeletePlacementGroup"
    ),
    "autoscaling.Group": Needs(
        asks=(
            *("autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeInstanceRefreshes"),
            *("autoscaling:DescribeScalingActivities", "autoscaling:DescribeTrafficSources"),
            *("autoscaling:DescribeLoadBalancerTargetGroups", "autoscaling:DescribeWarmPool"),
            *("ec2:DescribeLaunchTemplateVersions", "elasticloadbalancing:DescribeTargetHealth"),
        ),
        makes=("ec2:RunInstances",),  # checked, not done, when a group names a template's version
        changes=tuple(
            f"autoscaling:{word}"
            for word in (
                *("CreateAutoScalingGroup", "UpdateAutoScalingGroup", "DeleteAutoScalingGroup"),
                *("CreateOrUpdateTags", "DeleteTags", "SuspendProcesses", "ResumeProcesses"),
                *("StartInstanceRefresh", "CancelInstanceRefresh", "SetInstanceProtection"),
                *("AttachLoadBalancerTargetGroups", "DetachLoadBalancerTargetGroups"),
                *("AttachTrafficSources", "DetachTrafficSources", "PutLifecycleHook"),
            )
        ),
    ),
}
BALANCER: Mapping[str, Needs] = {
    "lb.LoadBalancer": Needs(
        asks=(
            "elasticloadbalancing:DescribeLoadBalancers",
            "elasticloadbalancing:DescribeLoadBalancerAttributes",
            "elasticloadbalancing:DescribeCapacityReservation",
            "elasticloadbalancing:DescribeTags",
            # What AWS looks up in the caller's name.
            *("ec2:DescribeAccountAttributes", "ec2:DescribeInternetGateways"),
            *("ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"),
            *("ec2:DescribeNetworkInterfaces", "ec2:GetSecurityGroupsForVpc"),
        ),
        changes=(
            "elasticloadbalancing:CreateLoadBalancer",
            "elasticloadbalancing:ModifyLoadBalancerAttributes",
            "elasticloadbalancing:SetSecurityGroups",
            "elasticloadbalancing:SetSubnets",
            "elasticloadbalancing:SetIpAddressType",
            "elasticloadbalancing:DeleteLoadBalancer",
            *BALANCING_TAGS,
        ),
    ),
    "lb.TargetGroup": Needs(
        asks=(
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeTargetGroupAttributes",
            "elasticloadbalancing:DescribeTags",
        ),
        changes=(
            "elasticloadbalancing:CreateTargetGroup",
            "elasticloadbalancing:ModifyTargetGroup",
            "elasticloadbalancing:ModifyTargetGroupAttributes",
            "elasticloadbalancing:DeleteTargetGroup",
            *BALANCING_TAGS,
        ),
    ),
    "lb.Listener": Needs(
        asks=(
            "elasticloadbalancing:DescribeListeners",
            "elasticloadbalancing:DescribeListenerAttributes",
            "elasticloadbalancing:DescribeTags",
        ),
        changes=(
            "elasticloadbalancing:CreateListener",
            "elasticloadbalancing:ModifyListener",
            "elasticloadbalancing:ModifyListenerAttributes",
            "elasticloadbalancing:DeleteListener",
            *BALANCING_TAGS,
        ),
    ),
    "acm.Certificate": Needs(
        asks=("acm:DescribeCertificate",),
        makes=("acm:RequestCertificate",),
        changes=(
            *("acm:DeleteCertificate", "acm:ListTagsForCertificate"),
            *("acm:RemoveTagsFromCertificate", "acm:AddTagsToCertificate"),
        ),
    ),
    "acm.CertificateValidation": Needs(asks=("acm:DescribeCertificate",)),
    "route53.Record": Needs(
        changes=(
            *("route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets"),
            *("route53:GetHostedZone", "route53:GetChange"),
        ),
    ),
    "route53.get_zone": Needs(
        asks=("route53:ListHostedZones", "route53:ListHostedZonesByName"),
        changes=("route53:GetHostedZone", "route53:ListTagsForResource"),
    ),
}
STORES: Mapping[str, Needs] = {
    "s3.Bucket": _s3(
        *("CreateBucket", "DeleteBucket", "ListBucket", "ListBucketVersions", "DeleteObject"),
        *("DeleteObjectVersion", "GetBucketPolicy", "GetBucketAcl", "GetBucketCORS"),
        *("GetBucketWebsite", "GetBucketVersioning", "GetAccelerateConfiguration"),
        *("GetBucketRequestPayment", "GetBucketLogging", "GetLifecycleConfiguration"),
        *("GetReplicationConfiguration", "GetEncryptionConfiguration", "GetBucketLocation"),
        *("GetBucketObjectLockConfiguration", "GetBucketTagging", "PutBucketTagging"),
        *("ListTagsForResource", "TagResource", "UntagResource"),
    ),
    "s3.BucketPublicAccessBlock": _s3("PutBucketPublicAccessBlock", "GetBucketPublicAccessBlock"),
    "s3.BucketOwnershipControls": _s3("PutBucketOwnershipControls", "GetBucketOwnershipControls"),
    "s3.BucketServerSideEncryptionConfiguration": _s3(
        "PutEncryptionConfiguration", "GetEncryptionConfiguration"
    ),
    "s3.BucketVersioning": _s3("PutBucketVersioning", "GetBucketVersioning"),
    "s3.BucketLifecycleConfiguration": _s3(
        "PutLifecycleConfiguration", "GetLifecycleConfiguration"
    ),
    "s3.BucketPolicy": _s3("PutBucketPolicy", "GetBucketPolicy", "DeleteBucketPolicy"),
    "s3.BucketObjectv2": _s3(
        *("PutObject", "AbortMultipartUpload", "GetObject", "GetObjectTagging", "DeleteObject"),
        *("DeleteObjectVersion", "ListBucketVersions"),
    ),
}
IDENTITY: Mapping[str, Needs] = {
    "iam.Role": _iam(
        *("CreateRole", "GetRole", "UpdateRole", "UpdateRoleDescription", "DeleteRole"),
        *("UpdateAssumeRolePolicy", "TagRole", "UntagRole", "ListRolePolicies", "ListRoleTags"),
        *("ListAttachedRolePolicies", "ListInstanceProfilesForRole"),
    ),
    "iam.RolePolicy": _iam("PutRolePolicy", "GetRolePolicy", "DeleteRolePolicy"),
    "iam.RolePolicyAttachment": _iam(
        "AttachRolePolicy", "DetachRolePolicy", "ListAttachedRolePolicies"
    ),
    "iam.InstanceProfile": _iam(
        *("CreateInstanceProfile", "GetInstanceProfile", "DeleteInstanceProfile"),
        *("AddRoleToInstanceProfile", "RemoveRoleFromInstanceProfile"),
        *("TagInstanceProfile", "UntagInstanceProfile", "PassRole"),
    ),
}
TIMER: Mapping[str, Needs] = {
    "scheduler.ScheduleGroup": Needs(
        changes=(
            *("scheduler:CreateScheduleGroup", "scheduler:GetScheduleGroup"),
            *("scheduler:DeleteScheduleGroup", "scheduler:ListTagsForResource"),
            *("scheduler:TagResource", "scheduler:UntagResource"),
        ),
    ),
    "scheduler.Schedule": Needs(
        changes=(
            *("scheduler:CreateSchedule", "scheduler:GetSchedule", "scheduler:UpdateSchedule"),
            *("scheduler:DeleteSchedule", "iam:PassRole"),
        ),
    ),
}
WATCH: Mapping[str, Needs] = {
    "cloudwatch.LogGroup": Needs(
        asks=("logs:DescribeLogGroups",),
        changes=(
            *("logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:PutRetentionPolicy"),
            *("logs:DeleteRetentionPolicy", "logs:ListTagsForResource"),
            *("logs:TagResource", "logs:UntagResource"),
        ),
    ),
    "cloudwatch.MetricAlarm": Needs(
        asks=("cloudwatch:DescribeAlarms",),
        changes=(
            *("cloudwatch:PutMetricAlarm", "cloudwatch:DeleteAlarms"),
            *("cloudwatch:ListTagsForResource", "cloudwatch:TagResource"),
            "cloudwatch:UntagResource",
        ),
    ),
    "sns.Topic": Needs(
        changes=(
            *("sns:CreateTopic", "sns:DeleteTopic", "sns:GetTopicAttributes"),
            *("sns:SetTopicAttributes", "sns:ListTagsForResource"),
            *("sns:TagResource", "sns:UntagResource"),
        ),
    ),
    "sns.TopicSubscription": Needs(
        # Of a subscription AWS takes no name here.
        asks=("sns:GetSubscriptionAttributes", "sns:Unsubscribe"),
        changes=("sns:Subscribe", "sns:ListSubscriptionsByTopic"),
    ),
    "budgets.Budget": Needs(
        asks=("budgets:ViewBudget",),
        changes=(
            *("budgets:ModifyBudget", "budgets:ListTagsForResource"),
            *("budgets:TagResource", "budgets:UntagResource"),
        ),
    ),
}
LOOKS: Mapping[str, Needs] = {
    "get_caller_identity": Needs(asks=("sts:GetCallerIdentity",)),
    "ssm.get_parameter": Needs(changes=("ssm:GetParameter",)),
}
TYPES: Mapping[str, Needs] = {
    **NETWORK,
    **MACHINES,
    **BALANCER,
    **STORES,
    **IDENTITY,
    **TIMER,
    **WATCH,
    **LOOKS,
}
# What is looked at before anything is made; a certificate then is the user's own, without our tags.
PREFLIGHT = Needs(
    asks=(
        *("ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes"),
        *("ec2:DescribeCapacityReservations", "servicequotas:GetServiceQuota"),
        *("servicequotas:GetAWSDefaultServiceQuota", "acm:DescribeCertificate"),
    ),
)
# What `atoll runs` and `atoll status` do beside it; in stores they need no more than `up`.
RUNS = Needs(
    asks=("ec2:DescribeInstances", "autoscaling:DescribeScalingActivities"),
    changes=("autoscaling:SetDesiredCapacity", "scheduler:CreateSchedule", "iam:GetRole"),
)
# What the proof of a `destroy` lists, and what `atoll sweep` deletes where asked to.
SWEEP = Needs(
    asks=(
        *("tag:GetResources", "s3:ListAllMyBuckets", "iam:ListRoles", "iam:ListInstanceProfiles"),
        *("ec2:DescribeInstances", "ec2:DescribeVolumes", "ec2:DescribeSnapshots"),
        *("scheduler:ListScheduleGroups", "scheduler:ListSchedules"),
        *("logs:DescribeLogGroups", "secretsmanager:ListSecrets", "budgets:ViewBudget"),
        *("cloudwatch:DescribeAlarms", "sns:ListTopics"),
    ),
    changes=(
        *("ec2:TerminateInstances", "ec2:DeleteVolume", "ec2:DeleteSnapshot"),
        *("kms:DescribeKey", "kms:ScheduleKeyDeletion", "secretsmanager:DeleteSecret"),
        *("logs:DeleteLogGroup", "budgets:ModifyBudget"),
        *("cloudwatch:DeleteAlarms", "sns:DeleteTopic"),
    ),
)
# Made by AWS once per account, when its first group, balancer or spot node comes.
FIRST = Needs(changes=("iam:CreateServiceLinkedRole",))


def all_needs() -> tuple[Needs, ...]:
    """Of whole stacks, from their `up` to the proof that nothing is left."""
    return (*TYPES.values(), PREFLIGHT, RUNS, SWEEP, FIRST)
