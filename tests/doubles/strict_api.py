"""AWS's own API before the strict double, for whoever asks AWS without Pulumi: boto3 and obstore.

    with served_api(cloud) as url:
        ...  # environ: AWS_ENDPOINT_URL=url, AWS_ALLOW_HTTP=true, any credentials
    assert asked(cloud).count(("s3", "PutObject")) == 1

A request is a call of the double with the operation `ask`, so that faults can strike it:

    cloud.strike("fail", "ask", "ec2.DeleteVpc", error="DependencyViolation: said AWS")
    cloud.strike("fail_after", "ask", "s3.PutObject")     # it is written, and nobody hears of it

The wire is moto's, by the services' models. What has no answer gets 501 with its name. Signatures
are not checked: that there is one says which service is meant.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from moto.core.model import OperationModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.serialize import get_serializer_class
from werkzeug.exceptions import NotFound

from tests.doubles.strict_answers import ANSWERS, unknown
from tests.doubles.strict_ask import Answer, Ask, Refusal, Said
from tests.doubles.strict_changes import CHANGES
from tests.doubles.strict_cloud import Call, Fault, StrictCloud
from tests.doubles.strict_s3 import S3

ASK = "ask"
DEEDS = ("nothing", "fail", "fail_after")
HOST = "127.0.0.1"
LOOK_S = 0.02
SCOPE = re.compile(r"Credential=[^/]+/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
# Services that sign by another name than that of their model.
SIGNED = {
    "elasticloadbalancing": "elbv2",
    "monitoring": "cloudwatch",
    "tagging": "resourcegroupstaggingapi",
}
ALL: Mapping[str, Answer] = {**ANSWERS, **CHANGES, **S3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What goes back."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def served_api(cloud: StrictCloud) -> Iterator[str]:
    """Where AWS can be asked, until the block ends."""
    handler = type("Handler", (_Handler,), {"cloud": cloud})
    server = _Server((HOST, 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(LOOK_S,))
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asked(cloud: StrictCloud) -> list[tuple[str, str]]:
    """Service and operation of each request so far."""
    words = [call.type.partition(".") for call in cloud.calls(ASK)]
    return [(service, operation) for service, _, operation in words]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    cloud: ClassVar[StrictCloud]

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = f"http://{HOST}{self.path}"
        request = Request.from_primitives(self.command, url, self.headers, body)
        reply = _reply(self.cloud, request)
        self.send_response(reply.status)
        headers = {**reply.headers}
        headers.setdefault("Content-Length", str(len(reply.body)))  # a HEAD has told of another's
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815


def _reply(cloud: StrictCloud, request: Request) -> Reply:
    scope = SCOPE.search(request.headers.get("Authorization", ""))
    if scope is None:
        return Reply(status=403, body=b"found no signature")
    service = SIGNED.get(scope["service"], scope["service"])
    try:
        model, path = get_service_router(service).match(request)
    except NotFound:
        name = request.headers.get("X-Amz-Target") or request.values.get("Action") or request.url
        return Reply(status=501, body=f"{service} has no {request.method} {name}".encode())
    protocol = determine_request_protocol(model.service_model, request.content_type)
    parsed = PROTOCOL_PARSERS[protocol](model).parse(
        {
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": request.get_data(),
            "url_path": request.path,
            "url_params": path,
        }
    )
    ask = Ask(
        cloud=cloud,
        service=service,
        operation=model.name,
        region=scope["region"],
        parameters={key: value for key, value in parsed.items() if value is not None},
    )
    return _serialized(_answer(ask), model, protocol)


def _answer(ask: Ask) -> Said | Refusal:
    fault = ask.cloud.begin(Call(ASK, ask.call, ""))
    assert fault.deed in DEEDS, f"a request can't be struck by {fault.deed}"
    try:
        if fault.deed == "fail":
            raise _struck(fault)
        answer = ALL.get(ask.call)
        if answer is None:
            raise unknown(ask.call)
        said = answer(ask)
        if fault.deed == "fail_after":
            raise _struck(fault)
    except Refusal as refusal:
        return refusal
    return said


def _struck(fault: Fault) -> Refusal:
    """By its own words: `Code: message`."""
    code, _, message = fault.error.partition(": ")
    return Refusal(code, message, 500 if code.startswith("Internal") else None)


def _serialized(said: Said | Refusal, model: OperationModel, protocol: str) -> Reply:
    writer = get_serializer_class(str(model.service_model.service_name), protocol)(model)
    written = writer.serialize(said)
    status, body = written["status_code"], written["body"] or b""
    if isinstance(said, Refusal):
        status = said.status or status
    elif "ContentRange" in said:
        status = 206
    return Reply(
        status=status,
        body=body if isinstance(body, bytes) else body.encode(),
        headers={name: str(value) for name, value in written["headers"].items()},
    )
