"""How AWS answers for what the kit uses: ids, ARNs, outputs, names, what can't change in place."""

from collections.abc import Mapping
from dataclasses import replace

from infra.provider.wire import Value
from tests.doubles.strict_looks import Look, Looks, looks_of

# What the kit uses. Shapes as in AWS's own documentation of each type, replacements as in the
# Terraform provider's, both as of 2026-11.
_TABLE = """
ec2/vpc:Vpc vpc-{hex} ec2:@:vpc/{id} cidrBlock,instanceTenancy
    instanceTenancy=default enableDnsSupport=true mainRouteTableId=rtb-{hex}
    defaultSecurityGroupId=sg-{hex} defaultNetworkAclId=acl-{hex} defaultRouteTableId=rtb-{hex}
ec2/subnet:Subnet subnet-{hex} ec2:@:subnet/{id} cidrBlock,availabilityZone,vpcId
    availabilityZone={region}a mapPublicIpOnLaunch=false
ec2/internetGateway:InternetGateway igw-{hex} ec2:@:internet-gateway/{id} -
ec2/routeTable:RouteTable rtb-{hex} ec2:@:route-table/{id} vpcId
ec2/route:Route r-{routeTableId}{hex8} - routeTableId,destinationCidrBlock
    origin=CreateRoute state=active
ec2/routeTableAssociation:RouteTableAssociation rtbassoc-{hex} - subnetId,gatewayId
ec2/natGateway:NatGateway nat-{hex} - allocationId,subnetId,connectivityType,vpcId
    publicIp=3.{octets} networkInterfaceId=eni-{hex}
ec2/eip:Eip eipalloc-{hex} ec2:@:elastic-ip/{id} domain
    allocationId={id} publicIp=3.{octets}
ec2/vpcEndpoint:VpcEndpoint vpce-{hex} ec2:@:vpc-endpoint/{id} vpcId,serviceName,vpcEndpointType
    state=available prefixListId=pl-{hex8} vpcEndpointType=Gateway
ec2/securityGroup:SecurityGroup sg-{hex} ec2:@:security-group/{id} description,vpcId
ec2/defaultSecurityGroup:DefaultSecurityGroup sg-{hex} ec2:@:security-group/{id} vpcId
    name=default
vpc/securityGroupIngressRule:SecurityGroupIngressRule sgr-{hex} ec2:@:rule/{id} securityGroupId
vpc/securityGroupEgressRule:SecurityGroupEgressRule sgr-{hex} ec2:@:rule/{id} securityGroupId
ec2/launchTemplate:LaunchTemplate lt-{hex} ec2:@:launch-template/{id} -
    latestVersion={revision} defaultVersion=1
ec2/instance:Instance i-{hex} ec2:@:instance/{id} ami,availabilityZone,subnetId
    instanceState=running
ec2/networkInterface:NetworkInterface eni-{hex} ec2:@:network-interface/{id} subnetId
ebs/volume:Volume vol-{hex} ec2:@:volume/{id} availabilityZone
ebs/snapshot:Snapshot snap-{hex} ec2:@:snapshot/{id} volumeId
ec2/placementGroup:PlacementGroup - ec2:@:placement-group/{name} strategy,partitionCount
autoscaling/group:Group - autoscaling:@:autoScalingGroup:{uuid}:autoScalingGroupName/{name} -
    desiredCapacity={minSize} healthCheckType=EC2 availabilityZones=["{region}a"]
autoscaling/schedule:Schedule {scheduledActionName} - autoscalingGroupName,scheduledActionName
scheduler/schedule:Schedule {groupName}/{name} scheduler:@:schedule/{groupName}/{name} groupName
scheduler/scheduleGroup:ScheduleGroup - scheduler:@:schedule-group/{name} -
iam/role:Role - iam::{account}:role/{name} path
    uniqueId=AROA{HEX}
iam/rolePolicy:RolePolicy {role}:{name} - role
iam/rolePolicyAttachment:RolePolicyAttachment {role}-{hex8} - *
iam/policy:Policy {arn} iam::{account}:policy/{name} path,description
iam/instanceProfile:InstanceProfile - iam::{account}:instance-profile/{name} path
    uniqueId=AIPA{HEX}
lb/loadBalancer:LoadBalancer {arn} @elb:loadbalancer/app/{name}/{hex16} internal,loadBalancerType
    dnsName={name}-{hex8}.{region}.elb.amazonaws.com zoneId=Z{HEX} loadBalancerType=application
    arnSuffix=app/{name}/{hex16}
lb/targetGroup:TargetGroup {arn} @elb:targetgroup/{name}/{hex16} port,protocol,vpcId,targetType
    arnSuffix=targetgroup/{name}/{hex16} targetType=instance
lb/listener:Listener {arn} @elb:listener/app/x/{hex16}/{hex8} loadBalancerArn
lb/listenerRule:ListenerRule {arn} @elb:listener-rule/app/x/{hex16}/{hex8} listenerArn
acm/certificate:Certificate {arn} acm:@:certificate/{uuid} domainName,validationMethod
    status=PENDING_VALIDATION
acm/certificateValidation:CertificateValidation {uuid} - *
route53/record:Record {zoneId}_{name}_{type} - name,type,zoneId
    fqdn={name}
budgets/budget:Budget {account}:{name} budgets::{account}:budget/{name} -
kms/key:Key {uuid} kms:@:key/{uuid} -
    keyId={uuid}
cloudwatch/logGroup:LogGroup - logs:@:log-group:{name} -
cloudwatch/metricAlarm:MetricAlarm - cloudwatch:@:alarm:{name} -
sns/topic:Topic {arn} sns:@:{name} fifoTopic
    owner={account}
sns/topicSubscription:TopicSubscription {topic}:{uuid} - topic,protocol,endpoint
    arn={topic}:{uuid} pendingConfirmation=true
s3/bucket:Bucket {bucket} s3:::{bucket} bucketPrefix,objectLockEnabled
    bucketDomainName={bucket}.s3.amazonaws.com bucketRegion={region}
    bucketRegionalDomainName={bucket}.s3.{region}.amazonaws.com
s3/bucketObject:BucketObject {bucket}/{key} s3:::{bucket}/{key} bucket,key
s3/bucketObjectv2:BucketObjectv2 {bucket}/{key} s3:::{bucket}/{key} bucket,key
s3/bucketPolicy:BucketPolicy {bucket} - bucket
s3/bucketVersioning:BucketVersioning {bucket} - bucket
s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration {bucket} - bucket
s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration {bucket} - bucket
s3/bucketPublicAccessBlock:BucketPublicAccessBlock {bucket} - bucket
s3/bucketOwnershipControls:BucketOwnershipControls {bucket} - bucket
secretsmanager/secret:Secret {arn} secretsmanager:@:secret:{name}-{hex8} -
secretsmanager/secretVersion:SecretVersion {arn}|{uuid} - *
    arn={secretId} versionId={uuid}
""".replace("@elb", "elasticloadbalancing:@").replace("@:rule", "@:security-group-rule")
_VALIDATION: Value = {
    "domainName": "{domainName}",
    "resourceRecordName": "_{hex8}.{domainName}.",
    "resourceRecordType": "CNAME",
    "resourceRecordValue": "_{hex16}.acm-validations.aws.",
}
_TYPES = looks_of("aws", _TABLE, Certificate={"domainValidationOptions": [_VALIDATION]})
_NAMES = {
    "aws:lb/loadBalancer:LoadBalancer": "[A-Za-z0-9-]{1,32}",
    "aws:lb/targetGroup:TargetGroup": "[A-Za-z0-9-]{1,32}",
    "aws:iam/role:Role": r"[\w+=,.@-]{1,64}",
    "aws:s3/bucket:Bucket": "[a-z0-9.-]{3,63}",
}
_FUNCTIONS = {
    "aws:ssm/getParameter:getParameter": Look(
        outputs={"value": "ami-{hex}", "type": "String", "version": 1}, names="/aws/service/.+"
    ),
    "aws:index/getCallerIdentity:getCallerIdentity": Look(
        outputs={"accountId": "{account}", "arn": "arn:aws:iam::{account}:root", "userId": "{HEX}"}
    ),
    "aws:route53/getZone:getZone": Look(outputs={"zoneId": "Z{HEX}", "name": "{name}"}),
    "aws:index/getRegion:getRegion": Look(
        outputs={"region": "{region}", "name": "{region}", "id": "{region}"}
    ),
    "aws:index/getAvailabilityZones:getAvailabilityZones": Look(
        outputs={"names": ["{region}a", "{region}b", "{region}c"], "id": "{region}"}
    ),
}
_ARN = "arn:aws:{service}:{region}:{account}:{kind}/{hex}"
_SELF: dict[str, Value] = {key: f"{{{key}}}" for key in ("region", "tagsAll")}
_BUCKET, _OBJECT = "aws:s3/bucket:Bucket", "aws:s3/bucketObject"
_TYPES |= {kind: replace(_TYPES[kind], names=names) for kind, names in _NAMES.items()}
_TYPES[_BUCKET] = replace(
    _TYPES[_BUCKET],
    named="bucket",
    contents=frozenset(kind for kind in _TYPES if kind.startswith(_OBJECT)),
)
# Made a second time, AWS writes these over; and of those it takes no second one alike.
_PUTS = (
    *("iam/rolePolicy:RolePolicy", "iam/rolePolicyAttachment:RolePolicyAttachment"),
    *("s3/bucketObjectv2:BucketObjectv2", "s3/bucketPolicy:BucketPolicy"),
    *("s3/bucketVersioning:BucketVersioning", "ec2/defaultSecurityGroup:DefaultSecurityGroup"),
    "s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
    "s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
    "s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
    "s3/bucketOwnershipControls:BucketOwnershipControls",
    "acm/certificateValidation:CertificateValidation",
    *("cloudwatch/metricAlarm:MetricAlarm", "sns/topic:Topic"),
    "sns/topicSubscription:TopicSubscription",
)
_RULE = ("securityGroupId", "ipProtocol", "fromPort", "toPort", "cidrIpv4")
_RULE_TO = (*_RULE, "referencedSecurityGroupId")
_UNIQUE: Mapping[str, tuple[str, ...]] = {
    "ec2/defaultSecurityGroup:DefaultSecurityGroup": ("vpcId",),
    "ec2/route:Route": ("routeTableId", "destinationCidrBlock"),
    "ec2/routeTableAssociation:RouteTableAssociation": ("subnetId",),
    "ec2/subnet:Subnet": ("vpcId", "cidrBlock"),
    "lb/listener:Listener": ("loadBalancerArn", "port"),
    "vpc/securityGroupEgressRule:SecurityGroupEgressRule": _RULE_TO,
    "vpc/securityGroupIngressRule:SecurityGroupIngressRule": _RULE_TO,
}
_TYPES |= {f"aws:{kind}": replace(_TYPES[f"aws:{kind}"], is_put=True) for kind in _PUTS}
_TYPES |= {f"aws:{kind}": replace(_TYPES[f"aws:{kind}"], unique=u) for kind, u in _UNIQUE.items()}
_VPC = "aws:ec2/vpc:Vpc"
_DEFAULT_GROUP = frozenset({"aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"})
_TYPES[_VPC] = replace(_TYPES[_VPC], contents=_DEFAULT_GROUP)
AWS = Looks(
    types=_TYPES,
    common={**_SELF, "ownerId": "{account}", "arn": _ARN},
    config=frozenset({"region"}),
    default_tags="defaultTags",
    answers=_FUNCTIONS,
)
