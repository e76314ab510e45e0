"""How long a keeper waits before it starts again what has died: longer each time, up to a bound."""

AGAIN_S_MIN = 0.5  # doubles each time
AGAIN_S_MAX = 30.0
STEADY_S = 30.0  # what ran for this long is well: the pause is short again
DOUBLINGS_MAX = 10

assert AGAIN_S_MIN < AGAIN_S_MAX <= STEADY_S


def again_s(failures: int) -> float:
    """The pause after so many ends by itself in a row, from 1."""
    return float(min(AGAIN_S_MAX, AGAIN_S_MIN * 2 ** min(failures - 1, DOUBLINGS_MAX)))
