"""Break an `up` or a `destroy` off at its nth call, and see what heals it."""

from dataclasses import dataclass
from typing import Literal

from tests.doubles.rented_clone import Moment, Rented

Verb = Literal["up", "destroy"]
Deed = Literal["fail", "fail_after", "kill", "kill_after"]
DEEDS: tuple[Deed, ...] = ("fail", "fail_after", "kill", "kill_after")


@dataclass(frozen=True, kw_only=True, slots=True)
class Interruption:
    """Once: the cloud refuses, or the engine is killed; before the call's effect or after it."""

    verb: Verb
    deed: Deed
    nth: int

    def __str__(self) -> str:
        return f"{self.verb}, {self.deed} at call {self.nth}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsal:
    """A stack, with the two moments that interruptions begin at, and how many calls each has."""

    rented: Rented
    stack: str
    nothing: Moment
    standing: Moment
    calls: dict[Verb, int]

    def play(self, what: Interruption) -> str:
        """Break it off, heal it by one command, take it down; what is wrong then, or nothing."""
        rented, stack = self.rented, self.stack
        (self.nothing if what.verb == "up" else self.standing).restore()
        rented.cloud.forget()
        rented.cloud.strike(what.deed, nth=what.nth)
        broken = rented.up(stack) if what.verb == "up" else rented.destroy(stack)
        if broken.status == 0:
            return f"{what}: it was not broken off"
        if what.verb == "up":
            healed = rented.heal(stack)
            if healed.status != 0:
                return f"{what}: not healed: {healed.out[-2000:]}{healed.said[-2000:]}"
        gone = rented.clone.run("atoll", "down", "--stack", stack, "--json")
        if gone.status != 0:
            return f"{what}: not gone: {gone.out[-2000:]}{gone.said[-2000:]}"
        left = [f"{r.type} {r.id}" for r in rented.left()]
        return f"{what}: left {left}" if left else ""


def rehearse(rented: Rented, stack: str) -> Rehearsal:
    """Up and down once, to know the calls."""
    folder = rented.clone.root.parent
    rented.clone.init(stack)
    nothing = Moment(rented=rented, folder=folder / f"{stack}-nothing")
    standing = Moment(rented=rented, folder=folder / f"{stack}-standing")
    nothing.keep()
    up = rented.up(stack)
    assert up.status == 0, up.out + up.said
    made = len(rented.cloud.calls("create"))
    standing.keep()
    rented.cloud.forget()
    gone = rented.destroy(stack)
    assert gone.status == 0, gone.out + gone.said
    calls: dict[Verb, int] = {"up": made, "destroy": len(rented.cloud.calls("delete"))}
    return Rehearsal(rented=rented, stack=stack, nothing=nothing, standing=standing, calls=calls)
