"""The gRPC side of `pulumi-resource-atoll`: protocol in, kinds out.

On the raw stubs, since `pulumi.provider.experimental` can't marshal unknowns, shows tracebacks for
errors, and has neither partial failure nor old inputs (SDK 3.272; docs/decisions/0002).
"""

import logging
import threading
from typing import NoReturn

import grpc
from google.protobuf import any_pb2, empty_pb2
from google.rpc import status_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2
from pulumi.runtime.proto import provider_pb2 as pb
from pulumi.runtime.proto.provider_pb2_grpc import ResourceProviderServicer
from pydantic import ValidationError

from infra.provider.kind import Context, Incomplete, Inputs, Kind
from infra.provider.wire import UNKNOWN, Properties, has_unknown, read, write
from runtime.errors import AtollError, Refused

log = logging.getLogger(__name__)

Rpc = grpc.ServicerContext


class Provider(ResourceProviderServicer):
    """Serves the kinds it is given. Each call runs in a thread of the server's pool."""

    def __init__(
        self, version: str, kinds: list[Kind[Inputs]], engine: engine_pb2_grpc.EngineStub
    ) -> None:
        self._version = version
        self._kinds = {kind.token: kind for kind in kinds}
        self._engine = engine
        self._cancelled = threading.Event()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: Rpc) -> plugin_pb2.PluginInfo:
        """The version, so that the engine need not guess."""
        return plugin_pb2.PluginInfo(version=self._version)

    def Handshake(
        self, request: pb.ProviderHandshakeRequest, context: Rpc
    ) -> pb.ProviderHandshakeResponse:
        """Previews are supported by answering this at all (provider.proto)."""
        return pb.ProviderHandshakeResponse(
            accept_secrets=True, accept_resources=True, accept_outputs=False
        )

    def CheckConfig(self, request: pb.CheckRequest, context: Rpc) -> pb.CheckResponse:
        """The provider has no configuration of its own."""
        return pb.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: pb.DiffRequest, context: Rpc) -> pb.DiffResponse:
        """See CheckConfig."""
        return pb.DiffResponse(changes=pb.DiffResponse.DIFF_NONE)

    def Configure(self, request: pb.ConfigureRequest, context: Rpc) -> pb.ConfigureResponse:
        """See CheckConfig."""
        return pb.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=False
        )

    def Cancel(self, request: empty_pb2.Empty, context: Rpc) -> empty_pb2.Empty:
        """Sent on Ctrl-C and at every normal end: long creates leave, the rest ends as it is."""
        self._cancelled.set()
        return empty_pb2.Empty()

    def Check(self, request: pb.CheckRequest, context: Rpc) -> pb.CheckResponse:
        """Faults by property; values that are not known yet are checked when they are."""
        kind = self._kind(request.urn, context)
        news = read(request.news)
        known: Properties = {k: v for k, v in news.items() if not has_unknown(v)}
        try:
            kind.inputs.model_validate(known)
        except ValidationError as fault:
            failures = [
                pb.CheckFailure(property=".".join(map(str, e["loc"])), reason=e["msg"])
                for e in fault.errors()
                if not (e["type"] == "missing" and str(e["loc"][0]) in news)
            ]
            if failures:
                return pb.CheckResponse(inputs=request.news, failures=failures)
        return pb.CheckResponse(inputs=request.news)

    def Diff(self, request: pb.DiffRequest, context: Rpc) -> pb.DiffResponse:
        """Which inputs changed, and whether that replaces the resource."""
        kind = self._kind(request.urn, context)
        old, new = read(request.old_inputs), read(request.news)
        with _plain_faults(context):
            kind.refuse_update(read(request.olds))
        changed = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
        replaces = [k for k in changed if k in kind.replaces]
        return pb.DiffResponse(
            changes=pb.DiffResponse.DIFF_SOME if changed else pb.DiffResponse.DIFF_NONE,
            diffs=changed,
            replaces=replaces,
            deleteBeforeReplace=bool(replaces),
            hasDetailedDiff=True,
            detailedDiff={k: _property_diff(k, old, new, kind.replaces) for k in changed},
        )

    def Create(self, request: pb.CreateRequest, context: Rpc) -> pb.CreateResponse:
        """Make it, or adopt what a killed `up` left."""
        kind = self._kind(request.urn, context)
        inputs = read(request.properties)
        if request.preview:
            unknown: Properties = dict.fromkeys(kind.computed, UNKNOWN)
            return pb.CreateResponse(properties=write(inputs | unknown))
        with _plain_faults(context, inputs):
            resource_id, computed = kind.create(_inputs(kind, inputs), self._context(request.urn))
        return pb.CreateResponse(id=resource_id, properties=write(inputs | computed, kind.secret))

    def Read(self, request: pb.ReadRequest, context: Rpc) -> pb.ReadResponse:
        """An empty id tells the engine that it is gone."""
        kind = self._kind(request.urn, context)
        inputs, state = read(request.inputs), read(request.properties)
        with _plain_faults(context):
            there = kind.read(_inputs(kind, inputs), _computed(kind, state))
        if not there:
            return pb.ReadResponse()
        return pb.ReadResponse(
            id=request.id, properties=write(state, kind.secret), inputs=request.inputs
        )

    def Update(self, request: pb.UpdateRequest, context: Rpc) -> pb.UpdateResponse:
        """In place; a preview changes nothing."""
        kind = self._kind(request.urn, context)
        inputs, computed = read(request.news), _computed(kind, read(request.olds))
        if not request.preview:
            with _plain_faults(context, inputs):
                computed = kind.update(_inputs(kind, inputs), computed, self._context(request.urn))
        return pb.UpdateResponse(properties=write(inputs | computed, kind.secret))

    def Delete(self, request: pb.DeleteRequest, context: Rpc) -> empty_pb2.Empty:
        """Gone already is fine."""
        kind = self._kind(request.urn, context)
        state = read(request.properties)
        inputs = read(request.old_inputs)
        with _plain_faults(context):
            kind.delete(_inputs(kind, inputs), _computed(kind, state), self._context(request.urn))
        return empty_pb2.Empty()

    def _kind(self, urn: str, context: Rpc) -> Kind[Inputs]:
        token = urn.split("::")[2].rsplit("$", 1)[-1]
        kind = self._kinds.get(token)
        if kind is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no resource type {token}")
        return kind

    def _context(self, urn: str) -> Context:
        def say(message: str, *, kept: bool = False) -> None:
            request = engine_pb2.LogRequest(
                severity=engine_pb2.INFO, message=message, urn=urn, ephemeral=not kept
            )
            try:
                self._engine.Log(request)
            except grpc.RpcError as fault:  # the engine has gone; what is done is done
                log.warning("not shown: %s (%s)", message, fault)

        return Context(say=say, cancelled=self._cancelled)


class _plain_faults:  # noqa: N801  reads as a with-statement
    """Turns our errors into one plain sentence for the user, without a traceback."""

    def __init__(self, context: Rpc, inputs: Properties | None = None) -> None:
        self._context = context
        self._inputs = inputs or {}

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, fault: BaseException | None, _traceback: object) -> None:
        match fault:
            case Incomplete():
                self._abort_partly(fault)
            case Refused():
                self._context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(fault))
            case AtollError() | OSError():
                self._context.abort(grpc.StatusCode.UNAVAILABLE, str(fault))
            case ValidationError():
                self._context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(fault))

    def _abort_partly(self, fault: Incomplete) -> NoReturn:
        detail = any_pb2.Any()
        detail.Pack(
            pb.ErrorResourceInitFailed(
                id=fault.resource_id,
                properties=write(self._inputs | fault.outputs),
                inputs=write(self._inputs),
                reasons=[str(fault)],
            )
        )
        status = status_pb2.Status(
            code=grpc.StatusCode.UNKNOWN.value[0], message=str(fault), details=[detail]
        )
        self._context.set_trailing_metadata(
            (("grpc-status-details-bin", status.SerializeToString()),)
        )
        self._context.abort(grpc.StatusCode.UNKNOWN, str(fault))


def _inputs(kind: Kind[Inputs], properties: Properties) -> Inputs:
    return kind.inputs.model_validate(properties)


def _computed(kind: Kind[Inputs], state: Properties) -> Properties:
    return {key: state[key] for key in kind.computed if key in state}


def _property_diff(
    key: str, old: Properties, new: Properties, replaces: frozenset[str]
) -> pb.PropertyDiff:
    if key not in old:
        plain, replacing = pb.PropertyDiff.ADD, pb.PropertyDiff.ADD_REPLACE
    elif key not in new:
        plain, replacing = pb.PropertyDiff.DELETE, pb.PropertyDiff.DELETE_REPLACE
    else:
        plain, replacing = pb.PropertyDiff.UPDATE, pb.PropertyDiff.UPDATE_REPLACE
    return pb.PropertyDiff(kind=replacing if key in replaces else plain, inputDiff=True)
