"""What a replica counts, under vLLM's names, so that its dashboards and autoscalers work unchanged.

One registry per process and no globals: a test may have several replicas.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LABEL = "model_name"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class ReplicaMetrics:
    """The figures of one replica."""

    def __init__(
        self, model_name: str, running: Callable[[], float], waiting: Callable[[], float]
    ) -> None:
        self._registry = CollectorRegistry()
        self._model_name = model_name
        self._gauge("num_requests_running", "Requests that have a slot.", running)
        self._gauge("num_requests_waiting", "Requests that wait for a slot.", waiting)
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of admitted prompts.")
        self.generation_tokens = self._counter("generation_tokens", "Tokens made.")
        self.rejections = self._counter("admission_rejections", "Requests answered with 429.")
        self.first_token_s = self._histogram(
            "time_to_first_token_seconds", "From admission to the first token."
        )
        self.request_s = self._histogram(
            "e2e_request_latency_seconds", "From admission to the last token."
        )
        self._success = Counter(
            "vllm:request_success",
            "Requests that ended by themselves.",
            (LABEL, "finished_reason"),
            registry=self._registry,
        )

    def success(self, reason: str) -> None:
        """Count a request that reached its end."""
        self._success.labels(self._model_name, reason).inc()

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        gauge = Gauge(f"vllm:{name}", what, (LABEL,), registry=self._registry)
        gauge.labels(self._model_name).set_function(value)

    def _counter(self, name: str, what: str) -> Counter:
        counter = Counter(f"vllm:{name}", what, (LABEL,), registry=self._registry)
        return counter.labels(self._model_name)

    def _histogram(self, name: str, what: str) -> Histogram:
        histogram = Histogram(
            f"vllm:{name}", what, (LABEL,), registry=self._registry, buckets=SECONDS
        )
        return histogram.labels(self._model_name)
