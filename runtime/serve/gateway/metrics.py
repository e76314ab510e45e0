"""What a gateway counts."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class GatewayMetrics:
    """The figures of one gateway."""

    def __init__(self, replicas_ready: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self.retries = self._counter("retries", "Requests asked again of another replica.")
        self.cut_streams = self._counter("cut_streams", "Started streams that lost their replica.")
        self.wrong_keys = self._counter("wrong_keys", "Requests without an accepted key.")
        self.requests_open = Gauge(
            "atoll_gateway_requests_open",
            "Requests that are being answered.",
            registry=self._registry,
        )
        Gauge(
            "atoll_gateway_replicas_ready",
            "Replicas that may get requests.",
            registry=self._registry,
        ).set_function(replicas_ready)
        self._answers = Counter(
            "atoll_gateway_answers",
            "Answers by status; of streams, when they start.",
            ("status",),
            registry=self._registry,
        )

    def answer(self, status: int) -> None:
        """Count an answer."""
        self._answers.labels(str(status)).inc()

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(f"atoll_gateway_{name}", what, registry=self._registry)
