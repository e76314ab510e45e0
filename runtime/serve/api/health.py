"""/livez, /readyz and /metrics."""

from collections.abc import Callable

from fastapi import APIRouter, Response
from pydantic import BaseModel

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health(BaseModel):
    """How a serving process is, in the words of presence."""

    state: str
    why: str = ""
    model: str | None = None  # digest of the version that answers


def routes(
    health: Callable[[], Health], is_ready: Callable[[], bool], metrics: Callable[[], bytes]
) -> APIRouter:
    """The endpoints that balancers and dashboards ask; the same on replicas and gateways."""
    router = APIRouter()

    @router.get("/livez")
    async def livez() -> Health:
        return health()

    @router.get("/readyz")
    @router.get("/health")  # vLLM's name for it
    async def readyz(response: Response) -> Health:
        response.status_code = 200 if is_ready() else 503
        return health()

    @router.get("/metrics")
    async def all_metrics() -> Response:
        return Response(metrics(), media_type=METRICS_TYPE)

    return router
