"""Which replica gets a request: the less loaded of two drawn at random.

Pure. Two choices are nearly as even as asking all, and gateways that know nothing of each other
don't all run to the same idle replica (Mitzenmacher 2001). Load is counted in tokens.
"""

from collections.abc import Callable, Sequence

PROMPT_CHARS_PER_TOKEN = 3  # a guess that only weighs requests against each other


def choose(outstanding_tokens: Sequence[int], draw: Callable[[int], int]) -> int:
    """The index of the chosen replica; `draw(n)` gives a number from 0 to n - 1."""
    assert outstanding_tokens, "somebody must be there to be chosen"
    count = len(outstanding_tokens)
    if count == 1:
        return 0
    first = draw(count)
    second = (first + 1 + draw(count - 1)) % count
    return min(first, second, key=lambda index: outstanding_tokens[index])


def weight_tokens(prompt_chars: int, tokens_max: int) -> int:
    """What a request will cost, about."""
    return prompt_chars // PROMPT_CHARS_PER_TOKEN + tokens_max
