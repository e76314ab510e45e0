"""Errors as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from runtime.errors import AtollError, Unavailable

LEAVING = "X-Atoll-Leaving"  # tells a balancer that another server may answer at once
MESSAGE_CHARS_MAX = 2_000  # a body full of faults must not be answered with a larger one


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success, and the data of an SSE error event."""

    error: ErrorDetail


class ApiError(AtollError):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        detail = ErrorDetail(message=message[:MESSAGE_CHARS_MAX], type=kind, param=param, code=code)
        self.body = ErrorBody(error=detail)

    def response(self) -> Response:
        """The answer as a whole."""
        return Response(
            self.body.model_dump_json(), self.status, self.headers, media_type="application/json"
        )

    def event(self) -> bytes:
        """The same after a stream has started; no [DONE] follows it."""
        return b"data: " + self.body.model_dump_json().encode() + b"\n\n"


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the asker must change the request."""
    return ApiError(400, message, param=param, code=code)


def invalid_body(fault: ValidationError) -> ApiError:
    """400 with all faults of a body, and the first one's field. Values are not repeated."""
    faults = fault.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in faults]
    param = ".".join(map(str, faults[0]["loc"])) or None
    return invalid("; ".join(lines), param=param, code=faults[0]["type"])


def wrong_key() -> ApiError:
    """401: no key, or one that nobody gave out."""
    return ApiError(
        401,
        "Incorrect API key provided. Send it as `Authorization: Bearer KEY`.",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def unknown_model(found: str, allowed: str) -> ApiError:
    """404: only one model is served."""
    return ApiError(
        404,
        f"model: found {found[:100]!r}; allowed {allowed!r}",
        param="model",
        code="model_not_found",
    )


def too_large(allowed_bytes: int) -> ApiError:
    """413: the rest of the body is dropped, so the connection can't be used again."""
    return ApiError(
        413,
        f"body: allowed {allowed_bytes} bytes",
        code="request_too_large",
        headers={"Connection": "close"},
    )


def queue_full(why: str, retry_after_s: int) -> ApiError:
    """429: come again later."""
    return ApiError(
        429,
        f"too many requests: {why}",
        kind="rate_limit_error",
        code="queue_full",
        headers=_retry_after(retry_after_s),
    )


def unavailable(why: str, retry_after_s: int = 1) -> ApiError:
    """503: somebody else may answer now, or this one later."""
    return ApiError(
        503,
        why,
        kind="service_unavailable",
        code="unavailable",
        headers=_retry_after(retry_after_s),
    )


def leaving() -> ApiError:
    """503 while draining: go elsewhere, and not by this connection."""
    error = unavailable("this server is leaving")
    error.headers |= {"Connection": "close", LEAVING: "1"}
    return error


def install(app: FastAPI) -> None:
    """Answer every error of an app in this shape."""
    handlers: dict[type[Exception], Callable[..., Awaitable[Response]]] = {
        ApiError: _api_error,
        Unavailable: _unavailable,
        HTTPException: _http_exception,
        Exception: _bug,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _retry_after(seconds: int) -> dict[str, str]:
    # The official client reads the milliseconds first.
    return {"Retry-After": str(seconds), "Retry-After-Ms": str(seconds * 1000)}


async def _api_error(_request: Request, error: ApiError) -> Response:
    return error.response()


async def _unavailable(_request: Request, fault: Unavailable) -> Response:
    return unavailable(str(fault)).response()


async def _http_exception(request: Request, fault: HTTPException) -> Response:
    message = f"{request.method} {request.url.path}: {fault.detail}"
    return ApiError(fault.status_code, message, code="unknown_url").response()


async def _bug(_request: Request, _fault: Exception) -> Response:
    return ApiError(500, "an internal error; the log has more", kind="server_error").response()
