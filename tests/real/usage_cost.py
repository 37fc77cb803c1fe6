"""What it costs vLLM to say in every event how many tokens there are so far (``continuous_usage_stats``).

Many streams at once, in rounds with and without; the server's whole output over the time from the first request to the
last answer. The client only keeps the bytes, so that it takes little of the machine.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

from pytest_boobench import wire
from tests.real.report import number, ratio, table
from tests.real.serving import Running

STREAMS = 64
ROUNDS = 12
_TOKENS = 128
_PROMPT_IDS = 32
_PATH = "/v1/completions"


def compare(running: Running, model: str) -> Iterator[str]:
    """A table of both, and of the pairs' ratio. Which is first changes from round to round."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    sizes: dict[bool, int] = {}
    asyncio.run(_measure(running.url, model, asked=False))
    for round_ in range(ROUNDS):
        for asked in (round_ % 2 == 0, round_ % 2 == 1):
            rate, sizes[asked] = asyncio.run(_measure(running.url, model, asked=asked))
            rates[asked].append(rate)
    pairs = sorted(with_ / without for with_, without in zip(rates[True], rates[False], strict=True))
    rows = [
        [name, number(statistics.median(rates[asked])), number(sizes[asked] / STREAMS)]
        for name, asked in (("without", False), ("with", True))
    ]
    yield from table((f"{STREAMS} streams, {ROUNDS} rounds", "tok/s", "bytes a stream"), rows)
    yield f"with against without: {ratio(statistics.median(pairs), 1.0)} (median of the rounds' pairs; "
    quarter = len(pairs) // 4
    yield f"quartiles {ratio(pairs[quarter], 1.0)} to {ratio(pairs[-1 - quarter], 1.0)})"
    yield ""


async def _measure(url: str, model: str, *, asked: bool) -> tuple[float, int]:
    """Tokens a second of all streams together, and the bytes that came."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(wire.StreamClient(url))
        bodies = [_body(model, asked=asked) for _ in range(STREAMS)]
        began_s = time.perf_counter()
        answers = await asyncio.gather(*(client.post(_PATH, body) for body in bodies))
        wall_s = time.perf_counter() - began_s
    bad = [answer.status for answer in answers if answer.status != 200]
    if bad:
        raise RuntimeError(f"{_PATH}: {bad[0]}: {answers[0].body[:300]!r}")
    return STREAMS * _TOKENS / wall_s, sum(len(answer.body) for answer in answers)


def _body(model: str, *, asked: bool) -> Mapping[str, Any]:
    usage = {"include_usage": True, **({"continuous_usage_stats": True} if asked else {})}
    prompt = [random.randint(100, 4000) for _ in range(_PROMPT_IDS)]
    fixed = {"max_tokens": _TOKENS, "ignore_eos": True, "temperature": 0.0, "stream": True}
    return {"model": model, "prompt": prompt, "stream_options": usage, **fixed}
