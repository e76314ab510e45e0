"""What runs on a node. Imports nothing from `infra`."""
