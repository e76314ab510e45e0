"""Training: the agent that keeps a node in a run, and the worker that computes."""
