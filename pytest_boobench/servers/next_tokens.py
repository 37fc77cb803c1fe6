"""What a model expects after each of some fixed prefixes of one text: how to ask, and how to read the answers.

A request for one token is sent for each prefix. Its sampling leaves the probabilities as the model gives them, so it
does not matter whether a server reports them before or after sampling.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from pytest_boobench.errors import HostError
from pytest_boobench.facts import Logprobs
from pytest_boobench.untrusted import Fault, get_count, get_list, get_number, get_object, show, to_number, to_object

NAME = "mill-1"
"""Name and version of the text."""
PREFIXES, STEP = 48, 5
"""How many prefixes, and by how many tokens each is longer than the one before."""
TOP = 20
"""Tokens that are asked for after each prefix: as many as vLLM gives unless it is started with more."""
_MOST_SUM = 1.001
"""The probabilities of some tokens cannot sum to more; the rest is rounding."""
_ID = "token_id:"
PLAIN: Mapping[str, Any] = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "seed": 42}
"""Sampling that changes no probability, as far as all servers call it the same."""

TEXT = """\
The mill stood where the river bent, and its wheel had turned since 1842. In spring the water rose to the second step;
in a dry August it hardly moved, and the miller's daughter read novels on the weir. "Will it rain?" she asked him once.
He looked at the swallows, then at the sky, and said nothing for a while. Rain, he thought, is worth more than silver.

Das Wasser treibt das Rad, und das Rad mahlt das Korn. El molino trabaja de noche cuando el viento duerme.
Le meunier compte ses sacs : douze de seigle, sept de froment, un de trop.

def grind(sacks: list[int], loss: float = 0.03) -> float:
    total = sum(sacks)
    return total * (1 - loss)  # 12 + 7 + 1 = 20 sacks, so 19.4 are left

{"mill": {"river": "Aue", "wheels": 2, "year": 1842, "prices": [3.5, 4.25, 4.0]}, "open": true}

1. Lift the sluice. 2. Wait until the wheel turns evenly. 3. Pour the grain slowly, a hand's breadth at a time.
4. Never leave the stones to run dry, for they strike sparks, and flour dust burns faster than straw.

SELECT month, SUM(sacks) FROM deliveries WHERE year = 1842 GROUP BY month ORDER BY 2 DESC LIMIT 3;

When the old man died, the village expected the daughter to sell. She kept the mill, took a partner from the next
valley, and wrote every sack into a book with a green cover. Fifty years later the book was still there, and so was
she: "The river does not ask who owns the wheel," she used to say, "and neither do I ask the river where it goes."
"""

Top = tuple[tuple[int, ...], tuple[float, ...]]
"""The likeliest tokens, the likeliest first, and the logarithms of their probabilities."""


async def ask_for_all(ids: Sequence[int], ask: Callable[[Sequence[int]], Awaitable[Top]], host: str) -> Logprobs:
    """Return what the model expects after each prefix of the text's ids; ``ask`` sends one prefix."""
    needed = PREFIXES * STEP
    if len(ids) < needed:
        raise HostError(f"{host}: quality: kld needs a text of {needed} tokens, this model makes {len(ids)} of it")
    found = [await ask(ids[:length]) for length in range(STEP, needed + 1, STEP)]
    digest = hashlib.sha256(",".join(map(str, ids[:needed])).encode()).hexdigest()[:16]
    tokens, logs = zip(*found, strict=True)
    return Logprobs(text=NAME, ids=digest, tokens=tokens, logs=logs)


def read_llama(answer: Mapping[str, Any], prefix: Sequence[int]) -> Top:
    """From llama.cpp's ``/completion`` with ``n_probs``. Raises Fault."""
    _require_length(get_count(answer, "tokens_evaluated"), prefix)
    places = get_list(answer, "completion_probabilities")
    told = get_list(to_object(places[0]), "top_logprobs") if places else ()
    return _read_top((get_count(entry, "id"), get_number(entry, "logprob")) for entry in map(to_object, told))


def read_openai(answer: Mapping[str, Any], prefix: Sequence[int]) -> Top:
    """From ``/v1/completions`` with ``logprobs`` and vLLM's ``return_tokens_as_token_ids``. Raises Fault."""
    _require_length(get_count(get_object(answer, "usage"), "prompt_tokens", "usage"), prefix)
    choices = get_list(answer, "choices")
    logprobs = get_object(to_object(choices[0]), "logprobs") if choices else {}
    places = get_list(logprobs, "top_logprobs", "logprobs")
    told = to_object(places[0]) if places else {}
    return _read_top((_read_id(name), to_number(log)) for name, log in told.items())


def _read_id(name: str) -> int | None:
    digits = name.removeprefix(_ID)
    return int(digits) if name.startswith(_ID) and digits.isdecimal() and len(digits) < 10 else None


def _require_length(counted: int | None, prefix: Sequence[int]) -> None:
    if counted is not None and counted != len(prefix):
        raise Fault(f"it counted {counted} tokens in a prompt of {len(prefix)}")


def _read_top(entries: Iterable[tuple[int | None, float | None]]) -> Top:
    """The tokens by probability. Five digits are kept: a baseline file stays small, and no divergence needs more."""
    found: dict[int, float] = {}
    for token, log in entries:
        if token is None or token < 0 or log is None or log > 1e-6 or token in found:
            raise Fault(f"it gives {show(log)} for token {show(token)}, expected each token's id once, and a logarithm")
        found[token] = log
    if not found:
        raise Fault("it gives no probabilities")
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:TOP]
    total = math.fsum(math.exp(log) for _, log in ordered)
    if total > _MOST_SUM:
        raise Fault(f"the probabilities sum to {total:.3f}, expected no more than 1")
    return tuple(token for token, _ in ordered), tuple(float(f"{min(log, 0.0):.5g}") for _, log in ordered)
