"""A control request and what is read of its answer: it waits for a host that is not ready, and JSON of any shape
becomes plain values, or a HostError that names what is wrong.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from pytest_boobench import wire
from pytest_boobench.errors import HostError
from pytest_boobench.servers.clients import Clients, Waiting, read_retry_after
from pytest_boobench.servers.refusals import explain_silence, is_refused, read_words
from pytest_boobench.units import span
from pytest_boobench.untrusted import MAX_COUNT, clean, clean_json, to_count

_LOADING = (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.CONFLICT)
"""What servers answer while they load a model."""
_FIRST_STEP_S, _STEP_S, _LONGEST_STEP_S = 0.1, 1.0, 10.0
"""Between two tries: the first, the later ones, and the most that a host can ask for."""


class StillLoading(HostError):  # noqa: N818  # what the host does
    """A host that did not become ready in the time that it was given."""


@dataclass(frozen=True, slots=True)
class Question:
    """One control request."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(slots=True)
class _Wait:
    """One reason to ask again."""

    limit_s: float
    began: float | None = None

    def begin(self) -> float:
        """Seconds since it was first met."""
        now = time.monotonic()
        self.began = now if self.began is None else self.began
        return now - self.began


async def ask(
    clients: Clients,
    host: str,
    question: Question,
    *,
    timeout_s: float | None = None,
    load_s: float | None = None,
) -> httpx.Response:
    """The answer to a control request, asked again while the host loads a model or its server is being started.

    ``timeout_s`` is for all of one try, 15 s where it is left out; ``load_s`` for the loading. StillLoading where that
    takes longer; httpx.TransportError where nothing that can be read is answered.
    """
    patience = clients.patience
    loading = _Wait(patience.loading_s if load_s is None else load_s)
    refused = _Wait(patience.refused_s)
    usual = clients.control.timeout
    timeout = usual if timeout_s is None else httpx.Timeout(timeout_s, connect=usual.connect)
    step_s = _FIRST_STEP_S
    while True:
        try:
            response = await clients.control.request(
                question.method, question.path, json=question.body, timeout=timeout
            )
        except httpx.ConnectError as error:
            waited_s = refused.begin()
            if not is_refused(error) or waited_s >= refused.limit_s:
                raise
            patience.tell(Waiting(host, "refused", waited_s))
            left_s = refused.limit_s - waited_s
        else:
            if response.status_code not in _LOADING:
                return response
            waited_s = loading.begin()
            if waited_s >= loading.limit_s:
                raise StillLoading(_explain_loading(clients, f"{host}: {question}", response, loading.limit_s))
            patience.tell(Waiting(host, "loading", waited_s))
            left_s = loading.limit_s - waited_s
            step_s = min(read_retry_after(response.headers) or step_s, _LONGEST_STEP_S)
        await asyncio.sleep(min(step_s, left_s))
        step_s = min(2 * step_s, _STEP_S)


@asynccontextmanager
async def telling(clients: Clients, host: str) -> AsyncIterator[None]:
    """Tell once a second that the host loads a model, for a request that is answered in silence when it has."""

    async def tell() -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(_STEP_S)
            clients.patience.tell(Waiting(host, "loading", time.monotonic() - began))

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()


def _explain_loading(clients: Clients, where: str, response: httpx.Response, limit_s: float) -> str:
    said = f"{response.status_code}: {read_words(response.content)}"
    if not limit_s:
        return f"{where}: {said}; try again when it is ready"
    return (
        f"{where}: still loading after {span(limit_s)} ({said}); "
        f"give it more time with {clients.patience.option}, or see the server's log"
    )


def explain_failure(error: httpx.TransportError, url: str) -> str:
    """Why there is no answer from the server at ``url``, or none that is of use."""
    if isinstance(error, wire.BadAnswer):
        return str(error)
    return f"no answer from {url}: {explain_silence(error)}"


# --- what is read of an answer


def to_natural(value: object) -> int | None:
    """A whole number from 1, as sizes and counts of things are; None where it is something else."""
    found = to_count(value)
    return found if found is not None and found > 0 else None


def to_plain(value: Any) -> Any:
    """JSON that every store takes: texts cleaned, numbers that no JSON carries left blank."""
    return _drop_odd_numbers(clean_json(value))


def _drop_odd_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _drop_odd_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_drop_odd_numbers(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return value if abs(value) <= MAX_COUNT and math.isfinite(value) else None


def to_ids(value: object) -> tuple[int, ...] | None:
    """Token ids; None where one is none."""
    if not isinstance(value, list):
        return None
    ids = [to_count(item) for item in value]
    found = tuple(token for token in ids if token is not None and token >= 0)
    return found if len(found) == len(ids) else None


def list_names(entry: Mapping[str, Any]) -> Iterator[str]:
    """What a listed model is called, its aliases included, as requests must say it."""
    aliases = entry.get("aliases")
    for name in (entry.get("id"), *(aliases if isinstance(aliases, list) else ())):
        if isinstance(name, str) and name:
            yield name


def can_be_shown(name: str) -> bool:
    """Whether a model's name holds nothing that steers a terminal: names are sent back as they came."""
    return name.isprintable()


def show_names(names: Sequence[str]) -> str:
    """Names in a message."""
    return ", ".join(map(clean, names)) or "nothing"
