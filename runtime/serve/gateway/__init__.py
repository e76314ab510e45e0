"""The gateway: keys, limits, routing, and the one layer that tries again."""
