"""GET /v1/models and /v1/models/{id}."""

from fastapi import APIRouter

from runtime.serve.api.bodies import ModelCard, ModelList
from runtime.serve.service import Service


def routes(service: Service) -> APIRouter:
    """The endpoints of one replica."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> ModelList:
        return ModelList(data=(_card(service, service.model_name),))

    @router.get("/v1/models/{model:path}")
    async def model(model: str) -> ModelCard:
        return _card(service, model)

    return router


def _card(service: Service, model: str) -> ModelCard:
    version = service.served(model)
    return ModelCard(
        id=model, created=version.created, root=version.digest, max_model_len=version.context
    )
