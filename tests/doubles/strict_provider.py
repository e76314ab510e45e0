# ruff: noqa: N802  names of a gRPC service
"""`pulumi-resource-aws` and its like, strict and without a cloud: what the real engine drives.

The package is what the program is called (strict_cloud.write_launchers). It refuses what the SDK's
classes don't allow, answers with what looks real and is equal in every run, keeps everything in a
StrictCloud and breaks when that says so. Not covered: functions that strict_schema.LOOKS has no
answer for, methods, default tags as a reason to update, time (nothing is ever pending), quotas.
"""

import hashlib
import json
import os
import re
import signal
import sys
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import grpc
from google.protobuf import any_pb2, empty_pb2
from google.rpc import status_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import plugin_pb2, provider_pb2_grpc
from pulumi.runtime.proto import provider_pb2 as pb

from infra.engine.parent import end_with
from infra.provider.wire import UNKNOWN, Properties, Value, has_unknown, read, write
from runtime.signals import stop_event
from tests.doubles.strict_cloud import ENV, Call, CloudError, Fault, Stored, StrictCloud
from tests.doubles.strict_looks import Look
from tests.doubles.strict_schema import LOOKS, Problem, ResourceType, Sdk

THREADS = 32
MESSAGE_BYTES_MAX = 400 << 20  # the engine's own limit
EXIT_ORPHANED = 3
STOP_S = 2.0
DEFAULTS = "__defaults"  # the inputs that Check has made up, as real providers note them
ACCOUNT = "123456789012"
ID = "{kind}-{hex}"  # of types that no table tells of and that have no name
PIECE = re.compile(r"{(\w+)}")

Rpc = grpc.ServicerContext


class StrictProvider(provider_pb2_grpc.ResourceProviderServicer):
    """Serves one package. Each call runs in a thread of the server's pool.

    Secrets are left to the engine, which opens them and marks outputs of the same names; what is
    made of one (tagsAll of a secret tag) is not secret.
    """

    def __init__(self, package: str, cloud: StrictCloud, engine: int) -> None:
        self._sdk = Sdk(package)
        self._looks = LOOKS[package]
        self._cloud = cloud
        self._engine = engine  # its process
        self._config: Properties = {}
        self._imports = threading.Lock()
        self._cancelled = threading.Event()

    def Handshake(
        self, request: pb.ProviderHandshakeRequest, context: Rpc
    ) -> pb.ProviderHandshakeResponse:
        """Neither secrets nor references: see the class."""
        return pb.ProviderHandshakeResponse()

    def Attach(self, request: plugin_pb2.PluginAttach, context: Rpc) -> empty_pb2.Empty:
        """Nothing is asked of the engine."""
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: Rpc) -> plugin_pb2.PluginInfo:
        """The version that the SDK wants."""
        return plugin_pb2.PluginInfo(version=self._sdk.version)

    def CheckConfig(self, request: pb.CheckRequest, context: Rpc) -> pb.CheckResponse:
        """The provider's own configuration is checked like a resource's inputs."""
        news = read(request.news)
        with self._imports:
            problems = list(self._sdk.config.problems(self._sdk.opened(news)))
        missing = sorted(self._looks.config - {key for key, value in news.items() if value})
        problems += [Problem(key, f"{self._sdk.package} has no default for it") for key in missing]
        return pb.CheckResponse(inputs=request.news, failures=_failures(problems))

    def DiffConfig(self, request: pb.DiffRequest, context: Rpc) -> pb.DiffResponse:
        """What can't be left out can't be changed either: another region is another cloud."""
        return _diff(read(request.old_inputs), read(request.news), self._looks.config)

    def Configure(self, request: pb.ConfigureRequest, context: Rpc) -> pb.ConfigureResponse:
        """Keeps what ids and default tags are made of."""
        with self._imports:
            self._config = self._sdk.opened(read(request.args))
        return pb.ConfigureResponse(supportsPreview=True)

    def Cancel(self, request: empty_pb2.Empty, context: Rpc) -> empty_pb2.Empty:
        """Sent on Ctrl-C, and at every normal end: delays end early."""
        self._cancelled.set()
        return empty_pb2.Empty()

    def Check(self, request: pb.CheckRequest, context: Rpc) -> pb.CheckResponse:
        """All problems at once; a name is made up where there is none, the old one first."""
        kind, look = self._kind(request.urn, context)
        inputs = request.news
        chosen = {look.named, f"{look.named}Prefix"} & set(request.news)
        if kind.inputs.is_text(look.named) and not chosen:
            old = read(request.olds).get(look.named)
            digits = hashlib.sha256(request.randomSeed).hexdigest()[:7]
            inputs[look.named] = old or f"{_call('check', request.urn).name}-{digits}"
            inputs[DEFAULTS] = [look.named]
        given = read(inputs)
        problems = list(kind.inputs.problems(given))
        for key, value in given.items():  # documents may be given as objects, and are kept as text
            if isinstance(value, dict) and kind.outputs.get(key) is str:
                inputs[key] = UNKNOWN if has_unknown(value) else json.dumps(value, sort_keys=True)
        name = given.get(look.named)
        if isinstance(name, str) and not has_unknown(name) and not re.fullmatch(look.names, name):
            problems.append(Problem(look.named, f"found {name!r}; allowed {look.names}"))
        return pb.CheckResponse(inputs=inputs, failures=_failures(problems))

    def Diff(self, request: pb.DiffRequest, context: Rpc) -> pb.DiffResponse:
        """A name that the program has chosen is free only when the old one is gone."""
        kind, look = self._kind(request.urn, context)
        old, new = read(request.old_inputs), read(request.news)
        fixed = set(kind.inputs.hints) if "*" in look.replaces else set(look.replaces)
        diff = _diff(old, new, fixed | {look.named, "region"})
        is_kept = look.named in new and new[look.named] == old.get(look.named)
        is_chosen = DEFAULTS not in request.news
        diff.deleteBeforeReplace = bool(diff.replaces) and is_kept and is_chosen
        return diff

    def Create(self, request: pb.CreateRequest, context: Rpc) -> pb.CreateResponse:
        """An effect that is not told of (`fail_after`) leaves a resource that is not ready."""
        kind, look = self._kind(request.urn, context)
        inputs = read(request.properties)
        if request.preview:
            self._cloud.begin(_call("create", request.urn, is_preview=True))
            sure = kind.inputs.hints.keys() - self._given(kind, look).keys()
            unknown: Properties = dict.fromkeys(kind.outputs.keys() - sure, UNKNOWN)
            return pb.CreateResponse(properties=write(unknown | inputs))
        with self._changing(_call("create", request.urn), context) as answer:
            stored = self._make(kind, inputs, self._cloud.seed(request.urn))
            self._cloud.create(stored, look.unique, look.is_put)
            answer.append(stored)
        return pb.CreateResponse(id=stored.id, properties=write(stored.state))

    def Read(self, request: pb.ReadRequest, context: Rpc) -> pb.ReadResponse:
        """An empty id tells the engine that it is gone; inputs as the cloud has them now."""
        with self._changing(_call("read", request.urn, request.id), context):
            found = self._cloud.find(_token(request.urn), request.id)
        if found is None:
            return pb.ReadResponse()
        wanted = read(request.inputs) or found.inputs  # none at an import
        inputs = write({key: found.state[key] for key in wanted if key in found.state})
        if DEFAULTS in request.inputs:
            inputs[DEFAULTS] = request.inputs[DEFAULTS]
        return pb.ReadResponse(id=found.id, properties=write(found.state), inputs=inputs)

    def Update(self, request: pb.UpdateRequest, context: Rpc) -> pb.UpdateResponse:
        """In place; what was computed before and still may be is kept."""
        kind, _ = self._kind(request.urn, context)
        inputs = read(request.news)
        old = self._cloud.find(kind.token, request.id)
        if request.preview:
            self._cloud.begin(_call("update", request.urn, request.id, is_preview=True))
            state = self._make(kind, inputs, old.seed, old).state if old else inputs
            was = read(request.olds)
            unsure = {key for key in state if key not in inputs and state[key] != was.get(key)}
            return pb.UpdateResponse(properties=write(state | dict.fromkeys(unsure, UNKNOWN)))
        with self._changing(_call("update", request.urn, request.id), context) as answer:
            if old is None:
                raise CloudError(f"NotFound: {kind.token} {request.id}")
            stored = self._make(kind, inputs, old.seed, old)
            self._cloud.write(stored, stored.revision)
            answer.append(stored)
        return pb.UpdateResponse(properties=write(stored.state))

    def Delete(self, request: pb.DeleteRequest, context: Rpc) -> empty_pb2.Empty:
        """Gone already is fine; still in use is not."""
        token = _token(request.urn)
        with self._changing(_call("delete", request.urn, request.id), context):
            doomed = self._cloud.find(token, request.id)
            if doomed is not None:
                has_choice = "forceDestroy" in self._kind(request.urn, context)[0].inputs.hints
                is_forced = not has_choice or doomed.state.get("forceDestroy") is True
                self._cloud.delete(doomed, self._look(token).contents, is_forced)
        return empty_pb2.Empty()

    def Invoke(self, request: pb.InvokeRequest, context: Rpc) -> pb.InvokeResponse:
        """A function that nobody has written an answer for is an error."""
        arguments = read(request.args)
        with self._changing(Call("invoke", request.tok, ""), context):
            answer = self._looks.answers.get(request.tok)
            if answer is None:
                raise CloudError(f"the double has no answer for {request.tok}")
            name = str(arguments.get(answer.named, "-"))
            if not re.fullmatch(answer.names, name):
                raise CloudError(f"NotFound: {request.tok} {name}; there is {answer.names}")
        facts = self._facts(f"{request.tok} {json.dumps(arguments, sort_keys=True)}", arguments)
        said = {key: _filled(value, facts) for key, value in answer.outputs.items()}
        reply = pb.InvokeResponse()
        getattr(reply, "return").CopyFrom(write(arguments | said))
        return reply

    def _kind(self, urn: str, context: Rpc) -> tuple[ResourceType, Look]:
        token = _token(urn)
        try:
            with self._imports:
                kind = self._sdk.resource(token)
        except KeyError:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no resource type {token}")
        return kind, self._look(token)

    def _look(self, token: str) -> Look:
        return self._looks.types.get(token, Look())

    def _make(
        self, kind: ResourceType, inputs: Properties, seed: str, old: Stored | None = None
    ) -> Stored:
        """The resource as the cloud would show it; pure, so that Read and every run agree."""
        look = self._look(kind.token)
        facts = self._facts(seed, inputs)
        facts["revision"] = old.revision + 1 if old else 1
        module, facts["kind"] = kind.token.split(":")[1:]
        facts["service"] = module.split("/")[0]
        name = _name(kind, look, inputs, str(facts["hex8"]))
        if name:
            facts["name"] = name
        if look.arn and "{id}" not in look.arn:
            facts["arn"] = _filled(look.arn, facts)
        facts["id"] = old.id if old else _filled(look.id or ("{name}" if name else ID), facts)
        given = self._given(kind, look)
        state = dict(inputs)
        for key in kind.outputs.keys() - inputs.keys():
            may_be_given = key in kind.inputs.hints
            if old and may_be_given and key not in old.inputs and key in old.state:
                state[key] = old.state[key]  # what a scheduled resize has set stays so
            elif key in given:
                state[key] = _filled(given[key], facts)
            elif not may_be_given:
                empty = kind.empty(key)
                state[key] = f"{key}-{facts['hex8']}" if empty == "" else empty
        return Stored(
            type=kind.token,
            id=str(facts["id"]),
            name="" if "{name}" in look.id else name,  # there the id says whose name it is
            urn=old.urn if old else seed.rsplit(" ", 1)[0],
            seed=seed,
            inputs=inputs,
            state=state,
            revision=int(str(facts["revision"])),
        )

    def _given(self, kind: ResourceType, look: Look) -> Properties:
        """Templates of the outputs of a type."""
        named = {look.named: "{name}"} if kind.inputs.is_text(look.named) else {}
        arn = {"arn": look.arn} if look.arn else {}
        return {**self._looks.common, **named, **arn, **look.outputs}

    def _facts(self, seed: str, inputs: Properties) -> Properties:
        """What templates may speak of."""
        marks = {"account": ACCOUNT, "region": self._config.get("region"), **_marks(seed)}
        default = self._config.get(self._looks.default_tags)
        tags = default.get("tags", default) if isinstance(default, dict) else None
        own = inputs.get(self._looks.tags) or {}
        if isinstance(tags, dict) and isinstance(own, dict):
            own = tags | own
        return {**self._config, **marks, **inputs, "tagsAll": own}

    @contextmanager
    def _changing(self, call: Call, context: Rpc) -> Iterator[list[Stored]]:
        """Around an effect: what the cloud was told to do to it; gets what came of it."""
        answer: list[Stored] = []
        fault = self._cloud.begin(call)
        self._before(fault, context)
        try:
            yield answer
        except CloudError as refusal:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refusal))
        if fault.deed == "kill_after":
            self._kill()
        if fault.deed == "fail_after":
            _abort_partly(fault, answer, context)

    def _before(self, fault: Fault, context: Rpc) -> None:
        if fault.deed == "fail":
            context.abort(grpc.StatusCode.UNKNOWN, fault.error)
        if fault.deed == "kill":
            self._kill()
        if fault.deed == "delay" and self._cancelled.wait(fault.delay_s):
            context.abort(grpc.StatusCode.CANCELLED, "cancelled while waiting")

    def _kill(self) -> None:
        os.kill(self._engine, signal.SIGKILL)
        threading.Event().wait()  # we end with it


def _abort_partly(fault: Fault, answer: list[Stored], context: Rpc) -> NoReturn:
    """An error with which the engine keeps the resource, to update it next time."""
    for stored in answer:
        detail = any_pb2.Any()
        failed = pb.ErrorResourceInitFailed(
            id=stored.id,
            properties=write(stored.state),
            inputs=write(stored.inputs),
            reasons=[fault.error],
        )
        detail.Pack(failed)
        code = grpc.StatusCode.UNKNOWN.value[0]
        status = status_pb2.Status(code=code, message=fault.error, details=[detail])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.UNKNOWN, fault.error)


def _token(urn: str) -> str:
    return urn.split("::")[2].rsplit("$", 1)[-1]


def _call(op: str, urn: str, resource_id: str = "", *, is_preview: bool = False) -> Call:
    return Call(op, _token(urn), urn.split("::", 3)[3], resource_id, is_preview)


def _failures(problems: list[Problem]) -> list[pb.CheckFailure]:
    return [pb.CheckFailure(property=p.path, reason=p.reason) for p in problems]


def _name(kind: ResourceType, look: Look, inputs: Properties, suffix: str) -> str:
    """Empty for types whose name nobody may leave out: there it is one input among others."""
    if not kind.inputs.is_text(look.named):
        return ""
    given = inputs.get(look.named)
    return str(given) if given else f"{inputs.get(f'{look.named}Prefix', '')}{suffix}"


def _marks(seed: str) -> Properties:
    """Random-looking pieces of ids, equal for equal seeds."""
    digest = hashlib.sha256(seed.encode())
    text = digest.hexdigest()
    return {
        "hex": text[:17],
        "hex8": text[:8],
        "hex16": text[:16],
        "HEX": text[:16].upper(),
        "uuid": str(uuid.UUID(text[:32])),
        "octets": ".".join(str(octet) for octet in digest.digest()[:3]),
    }


def _filled(template: Value, facts: Mapping[str, Value]) -> Value:
    if isinstance(template, list):
        return [_filled(item, facts) for item in template]
    if isinstance(template, dict):
        return {key: _filled(item, facts) for key, item in template.items()}
    if not isinstance(template, str):
        return template
    if whole := PIECE.fullmatch(template):
        return facts.get(whole[1])
    text = PIECE.sub(lambda piece: str(facts.get(piece[1], "")), template)
    return UNKNOWN if UNKNOWN in text else text


def _diff(old: Properties, new: Properties, fixed: Collection[str]) -> pb.DiffResponse:
    """By top-level input."""
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    kinds = pb.PropertyDiff
    ways = {key: kinds.UPDATE_REPLACE if key in fixed else kinds.UPDATE for key in changed}
    return pb.DiffResponse(
        changes=pb.DiffResponse.DIFF_SOME if changed else pb.DiffResponse.DIFF_NONE,
        diffs=changed,
        replaces=[key for key in changed if key in fixed],
        hasDetailedDiff=True,
        detailedDiff={key: kinds(kind=way, inputDiff=True) for key, way in ways.items()},
    )


def main() -> int:
    """Serve the engine that started us, until it says stop or is gone."""
    if ENV not in os.environ or len(sys.argv) < 2:
        print(f"{sys.argv[0]} is started by pulumi, with the double's file in {ENV}")
        return 2
    package = Path(sys.argv[0]).name.removeprefix("pulumi-resource-")
    engine = os.getppid()
    provider = StrictProvider(package, StrictCloud(Path(os.environ[ENV])), engine)
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
    server = grpc.server(ThreadPoolExecutor(THREADS), options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stop = stop_event()
    leave = partial(os._exit, EXIT_ORPHANED)
    threading.Thread(target=end_with, args=(engine, leave), daemon=True).start()
    print(port, flush=True)
    stop.wait()
    server.stop(STOP_S).wait()
    return 0
