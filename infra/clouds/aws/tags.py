"""Tags on everything that takes them: by these a sweep finds a stack without Pulumi's state."""

TAG_PROJECT = "atoll:project"
TAG_STACK = "atoll:stack"
TAG_ID = "atoll:stack-id"
TAG_ROLE = "atoll:role"
TAG_RETAIN = "atoll:retain"
