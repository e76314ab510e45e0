"""The HTTP application of a replica."""

from fastapi import FastAPI

from runtime.serve.api import chat, completions, errors, health, models
from runtime.serve.service import Service


def build_app(service: Service) -> FastAPI:
    """All endpoints over one service."""
    app = FastAPI(title="Atoll replica", docs_url=None, redoc_url=None)
    errors.install(app)
    for room in (models, completions, chat):
        app.include_router(room.routes(service))
    app.include_router(
        health.routes(
            lambda: health.Health(
                state=service.life.state,
                why=service.why,
                model=service.version.digest if service.version else None,
            ),
            lambda: service.is_ready,
            service.metrics.text,
        )
    )
    return app
