"""The engine: scheduler, runner, cache and sampling in a process of their own."""
