"""What completions and chat share when they answer."""

from contextlib import aclosing

from runtime.serve.api.bodies import FinishReason, Usage
from runtime.serve.service import Generation


async def collect(generation: Generation) -> tuple[str, FinishReason]:
    """The whole text, and why it ended."""
    texts: list[str] = []
    end: FinishReason | None = None
    async with aclosing(generation.pieces()) as pieces:
        async for piece in pieces:
            texts.append(piece.text)
            end = piece.end
    assert end is not None, "an engine ends every request or fails it"
    return "".join(texts), end


def usage(generation: Generation) -> Usage:
    """Tokens of an ended generation."""
    return Usage(
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=generation.completion_tokens,
        total_tokens=generation.prompt_tokens + generation.completion_tokens,
    )
