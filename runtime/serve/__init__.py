"""Serving: an engine in its own process, an OpenAI API over it, gateways in front."""
