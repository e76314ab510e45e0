"""One `up` of a stack at a time."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from infra.cli.screen import Screen, console_on
from infra.cli.turn import TURN_S, lock_path, turn
from runtime.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.cli.conftest import ScriptedClock

HOLD = """
import fcntl, os, sys, time
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
os.pwrite(handle, str(os.getpid()).encode(), 0)
print("held", flush=True)
time.sleep(600)
"""


def quiet() -> tuple[Screen, io.StringIO]:
    """A screen and what it got."""
    screen, stream = Screen(), io.StringIO()
    screen.console = console_on(stream)
    return screen, stream


def hold(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the stack."""
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_the_second_waits_and_says_for_whom(home: Path, scripted: ScriptedClock) -> None:
    holder = hold(lock_path(home, "local"))

    def end_holder() -> None:
        holder.kill()
        holder.wait()

    scripted.scenes = [lambda: None, end_holder]
    screen, stream = quiet()

    with turn(home, "local", screen, scripted.clock):
        waited_s = scripted.now_s

    assert waited_s > 0
    assert f"process {holder.pid} works on stack local" in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


def test_another_stack_is_free(home: Path, scripted: ScriptedClock) -> None:
    holder = hold(lock_path(home, "local"))
    screen, stream = quiet()

    with turn(home, "other", screen, scripted.clock):
        pass

    assert stream.getvalue() == ""
    holder.kill()
    holder.wait()


def test_a_holder_that_was_killed_holds_no_more(home: Path, scripted: ScriptedClock) -> None:
    holder = hold(lock_path(home, "local"))
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    screen, stream = quiet()

    with turn(home, "local", screen, scripted.clock):
        assert stream.getvalue() == ""


def test_who_waits_for_too_long_gives_up(home: Path, scripted: ScriptedClock) -> None:
    lock_path(home, "local").parent.mkdir()
    handle = os.open(lock_path(home, "local"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    screen, _ = quiet()

    with (
        pytest.raises(Refused, match="let it finish"),
        turn(home, "local", screen, scripted.clock),
    ):
        pass

    assert scripted.now_s == pytest.approx(TURN_S)
    os.close(handle)


def test_a_home_that_can_not_be_written_is_refused_with_the_way_out(
    tmp_path: Path, scripted: ScriptedClock
) -> None:
    (tmp_path / "file").write_text("")
    screen, _ = quiet()

    with (
        pytest.raises(Refused, match="ATOLL_HOME"),
        turn(tmp_path / "file" / "home", "local", screen, scripted.clock),
    ):
        pass
