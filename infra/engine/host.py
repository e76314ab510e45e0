"""The Python language host beside an engine built from Go: `python -m infra.engine.host ENGINE`.

Pulumi starts it in the program's folder and asks it to run programs and policy packs. Prints its
port as the first line of stdout; all later output is shown to the user as diagnostics. Does not
install packages, make templates or run provider plugins: the kit's own set-up and provider do.
Protocol: proto/pulumi/language.proto of Pulumi 3.259, read 2026-11-24.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2 as pb
from pulumi.runtime.proto import plugin_pb2
from pulumi.runtime.proto.language_pb2_grpc import (
    LanguageRuntimeServicer,
    add_LanguageRuntimeServicer_to_server,
)

from infra.engine.packages import packages_in
from infra.engine.parent import end_with
from infra.engine.release import VERSION
from runtime.signals import stop_event

PROGRAM = Path(__file__).with_name("program.py")
THREADS = 16  # a program or a policy pack blocks one each
MESSAGE_BYTES_MAX = 400 << 20  # the engine's own limit
READ_BYTES = 1 << 16
EXIT_SHOWN = 32  # the program's error has been shown already
EXIT_ORPHANED = 3
STOP_S = 2.0  # the engine kills a host 5 s after SIGINT

Rpc = grpc.ServicerContext


class Host(LanguageRuntimeServicer):
    """Each call runs in a thread of the server's pool."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._children: set[subprocess.Popen[bytes]] = set()
        self._cancelled = False

    def GetPluginInfo(self, request: empty_pb2.Empty, context: Rpc) -> plugin_pb2.PluginInfo:
        """The release that this host was made for."""
        return plugin_pb2.PluginInfo(version=VERSION)

    def Handshake(
        self, request: pb.LanguageHandshakeRequest, context: Rpc
    ) -> pb.LanguageHandshakeResponse:
        """Only sent when a running host is attached to."""
        self._engine = request.engine_address
        return pb.LanguageHandshakeResponse()

    def GetRequiredPackages(
        self, request: pb.GetRequiredPackagesRequest, context: Rpc
    ) -> pb.GetRequiredPackagesResponse:
        """The provider SDKs in the program's environment, so that their plugins are ready."""
        try:
            python = python_of(request.info)
        except FileNotFoundError:  # Run says it better
            return pb.GetRequiredPackagesResponse()
        return pb.GetRequiredPackagesResponse(packages=packages_in(python))

    def Run(self, request: pb.RunRequest, context: Rpc) -> pb.RunResponse:
        """Run the program to its end, in a process of its own: preview and update share a host."""
        try:
            python = python_of(request.info)
        except FileNotFoundError as fault:
            return pb.RunResponse(error=str(fault))
        env = {
            "PULUMI_CONFIG": json.dumps(dict(request.config)),
            "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(request.configSecretKeys)),
        }
        command = [str(python), "-u", "-P", str(PROGRAM), *self._arguments(request)]
        child = self._start(command, env, request.pwd, context)
        status = child.wait()
        self._children.discard(child)
        if status in (0, EXIT_SHOWN):
            return pb.RunResponse(bail=status == EXIT_SHOWN)
        return pb.RunResponse(error=f"program exited with non-zero exit code: {status}")

    def _arguments(self, request: pb.RunRequest) -> list[str]:
        named = {
            "monitor": request.monitor_address,
            "engine": self._engine,
            "project": request.project,
            "stack": request.stack,
            "organization": request.organization,
            "root_directory": request.info.root_directory,
            "pwd": request.pwd,
            "parallel": str(request.parallel),
            "dry_run": "true" if request.dryRun else "false",
        }
        program = request.info.entry_point or request.program or "."
        options = [f"--{name}={value}" for name, value in named.items()]
        return [*options, "--", program, *request.args]

    def RunPlugin(
        self, request: pb.RunPluginRequest, context: Rpc
    ) -> Iterator[pb.RunPluginResponse]:
        """Run a policy pack; its output is the stream, its exit status the last message."""
        if request.kind != "analyzer":
            context.abort(
                grpc.StatusCode.UNIMPLEMENTED, f"this host runs no plugins of kind {request.kind!r}"
            )
        try:
            python = python_of(request.info)
        except FileNotFoundError as fault:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(fault))
        pack = request.info.program_directory or request.program
        env = dict(item.partition("=")[::2] for item in request.env)
        # The engine's address is the first of the arguments, the pack's folder is the program.
        command = [str(python), "-u", "-m", "pulumi.policy", *request.args[:1], pack]
        child = self._start(command, env, request.pwd, context, is_relayed=True)
        yield from _relayed(child)
        status = child.wait()
        self._children.discard(child)
        yield pb.RunPluginResponse(exitcode=status)

    def Cancel(self, request: empty_pb2.Empty, context: Rpc) -> empty_pb2.Empty:
        """Sent on Ctrl-C, and at every normal end too."""
        self.end_children()
        return empty_pb2.Empty()

    def InstallDependencies(
        self, request: pb.InstallDependenciesRequest, context: Rpc
    ) -> Iterator[pb.InstallDependenciesResponse]:
        """`make setup` has installed them, from locks with hashes."""
        yield from ()

    def About(self, request: pb.AboutRequest, context: Rpc) -> pb.AboutResponse:
        """For `pulumi about`."""
        return pb.AboutResponse(executable=sys.executable, version=sys.version.split()[0])

    def GetProgramDependencies(
        self, request: pb.GetProgramDependenciesRequest, context: Rpc
    ) -> pb.GetProgramDependenciesResponse:
        """For `pulumi about`: what is installed stands in the locks."""
        return pb.GetProgramDependenciesResponse()

    def end_children(self) -> None:
        """Ask programs and packs to leave."""
        for child in list(self._children):
            child.terminate()

    def _start(
        self,
        command: list[str],
        env: Mapping[str, str],
        folder: str,
        context: Rpc,
        is_relayed: bool = False,
    ) -> subprocess.Popen[bytes]:
        """A child in a session of its own: a Ctrl-C reaches it through Cancel, not as a traceback.

        It ends with the call that it was started for.
        """
        pipe = subprocess.PIPE if is_relayed else None
        child = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
        self._children.add(child)
        context.add_callback(child.terminate)
        return child


def python_of(info: pb.ProgramInfo) -> Path:
    """The interpreter of a program: that of its `virtualenv` option, else this host's own.

    Raises FileNotFoundError if the option names none.
    """
    options = dict(info.options)
    named = options.get("virtualenv")
    if not isinstance(named, str) or not named:
        return Path(sys.executable)
    python = Path(info.root_directory, named, "bin", "python")
    if not python.exists():
        raise FileNotFoundError(
            f"runtime.options.virtualenv: found no {python}; allowed a folder with Python in it; "
            "make it: make setup"
        )
    return python


def _relayed(child: subprocess.Popen[bytes]) -> Iterator[pb.RunPluginResponse]:
    """What a child writes, as it comes, until it has closed both streams."""
    messages: queue.SimpleQueue[pb.RunPluginResponse | None] = queue.SimpleQueue()

    def relay(stream: IO[bytes], is_error: bool) -> None:
        while piece := os.read(stream.fileno(), READ_BYTES):
            messages.put(
                pb.RunPluginResponse(stderr=piece)
                if is_error
                else pb.RunPluginResponse(stdout=piece)
            )
        messages.put(None)

    assert child.stdout is not None
    assert child.stderr is not None
    for stream, is_error in ((child.stdout, False), (child.stderr, True)):
        threading.Thread(target=relay, args=(stream, is_error), daemon=True).start()
    for _ in range(2):
        while (message := messages.get()) is not None:
            yield message


def main() -> int:
    """Serve one engine until it says stop or is gone."""
    addresses = [a for a in sys.argv[1:] if not a.startswith("-")]
    if not addresses:
        print("the language host is started by pulumi, with the engine's address")
        return 2
    host = Host(addresses[-1])
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
    server = grpc.server(ThreadPoolExecutor(THREADS), options=options)
    add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stop = stop_event()

    def leave() -> None:
        host.end_children()
        os._exit(EXIT_ORPHANED)

    threading.Thread(target=end_with, args=(os.getppid(), leave), daemon=True).start()
    print(port, flush=True)
    stop.wait()
    host.end_children()
    server.stop(STOP_S).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
