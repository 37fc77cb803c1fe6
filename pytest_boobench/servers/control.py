"""Control requests: all but the measured ones. They wait for a host that is not ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from pytest_boobench import wire
from pytest_boobench.errors import HostError
from pytest_boobench.servers.clients import Clients, Waiting, read_retry_after
from pytest_boobench.servers.refusals import explain_answer, explain_silence, is_refused, read_words
from pytest_boobench.units import span
from pytest_boobench.untrusted import Fault, clean, parse_json, show, to_count, to_object, to_objects

_LOADING = (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.CONFLICT)
"""The statuses of a server that loads a model."""
_FIRST_STEP_S, _STEP_S, _LONGEST_STEP_S = 0.1, 1.0, 10.0
"""Pause before the second try, before later ones, and the longest pause that a host can ask for."""


Ids = tuple[int, ...]
"""A model's token ids."""


class StillLoading(HostError):  # noqa: N818  # what the host does
    """A host did not become ready in time."""


class Unanswered(HostError):  # noqa: N818  # what became of the request
    """A control request got no readable answer; ``why`` is the message without host and request."""

    def __init__(self, where: str, url: str, error: httpx.TransportError) -> None:
        self.bad_answer = isinstance(error, wire.BadAnswer)
        self.timed_out = isinstance(error, httpx.ReadTimeout)
        self.why = str(error) if self.bad_answer else f"no answer from {url}: {explain_silence(error)}"
        super().__init__(f"{where}: {self.why}")


@dataclass(frozen=True, slots=True)
class Question:
    """One control request."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


async def ask(
    clients: Clients, host: str, question: Question, *, timeout_s: float | None = None, load_s: float | None = None
) -> httpx.Response:
    """Return the answer to a control request; repeat it while the host loads a model or its server starts.

    ``timeout_s`` limits one try, 15 s by default; ``load_s`` limits the loading. Raises StillLoading if that takes
    longer, Unanswered if no answer is readable.
    """
    patience = clients.patience
    load_s = patience.loading_s if load_s is None else load_s
    usual = clients.control.timeout
    timeout = usual if timeout_s is None else httpx.Timeout(timeout_s, connect=usual.connect)
    loading_since: float | None = None
    refused_since: float | None = None
    step_s = _FIRST_STEP_S
    while True:
        try:
            response = await clients.control.request(
                question.method, question.path, json=question.body, timeout=timeout
            )
        except httpx.TransportError as error:
            now = time.monotonic()
            refused_since = now if refused_since is None else refused_since
            waited_s, limit_s = now - refused_since, patience.refused_s
            if not is_refused(error) or waited_s >= limit_s:
                raise Unanswered(f"{host}: {question}", clients.url, error) from error
            patience.tell(Waiting(host, "refused", waited_s))
        else:
            if response.status_code not in _LOADING:
                return response
            now = time.monotonic()
            loading_since = now if loading_since is None else loading_since
            waited_s, limit_s = now - loading_since, load_s
            if waited_s >= limit_s:
                raise _still_loading(f"{host}: {question}", limit_s, clients, response)
            patience.tell(Waiting(host, "loading", waited_s))
            step_s = min(read_retry_after(response.headers) or step_s, _LONGEST_STEP_S)
        await asyncio.sleep(min(step_s, limit_s - waited_s))
        step_s = min(2 * step_s, _STEP_S)


@asynccontextmanager
async def telling(clients: Clients, host: str) -> AsyncIterator[None]:
    """Report once a second that the host loads a model, during a request whose answer comes only afterwards."""

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


def _still_loading(where: str, limit_s: float, clients: Clients, response: httpx.Response) -> StillLoading:
    said = f"{response.status_code}: {read_words(response.content)}"
    if not limit_s:
        return StillLoading(f"{where}: {said}; try again when it is ready")
    return StillLoading(
        f"{where}: still loading after {span(limit_s)} ({said}); "
        f"give it more time with {clients.patience.option}, or see the server's log"
    )


class ControlRequests:
    """The control requests to one server. Its methods raise HostError for any answer that they do not describe."""

    def __init__(self, name: str, url: str, clients: Clients) -> None:
        self.name = name
        self.url = url
        self.clients = clients

    async def _request(self, question: Question, *, timeout_s: float | None = None) -> httpx.Response:
        """Return any answer to a control request, once the host is not loading."""
        return await ask(self.clients, self.name, question, timeout_s=timeout_s)

    async def _ask(self, question: Question, *, timeout_s: float | None = None) -> Any:
        """Return the JSON of a 200.

        ``timeout_s`` is for requests that may take long, such as counting tokens by a request.
        """
        return self._read_json(question, await self._request(question, timeout_s=timeout_s))

    def _read_json(self, question: Question, response: httpx.Response) -> Any:
        if response.status_code == httpx.codes.OK:
            try:
                return parse_json(response.content)
            except Fault as fault:
                if not str(fault).startswith("is not JSON"):
                    raise HostError(f"{self.name}: {question}: the answer {fault}") from fault
        raise HostError(f"{self.name}: {question}: {explain_answer(response, self.url)}")

    async def _ask_object(self, question: Question, *, timeout_s: float | None = None) -> Mapping[str, Any]:
        """Return the JSON object of an answer."""
        found = await self._ask(question, timeout_s=timeout_s)
        if not isinstance(found, Mapping):
            where = f"{self.name}: {question}"
            raise HostError(f"{where}: expected an object, got {show(found)}; is {self.url} an LLM server?")
        return found

    async def _ask_list(self, path: str, key: str, doubt: str) -> list[Mapping[str, Any]]:
        """Return the objects in a list of models. Raises HostError, ending with ``doubt``, if there is no such list."""
        listed = to_object(await self._ask(Question("GET", path))).get(key)
        if not isinstance(listed, list):
            raise HostError(f"{self.name}: GET {path}: expected a list of models under {key!r}; {doubt}")
        return to_objects(listed)

    async def _load_by(self, question: Question) -> None:
        """Send a control request that is answered when a model is loaded. Raises HostError if it is not a 200."""
        patience, where = self.clients.patience, f"{self.name}: {question}"
        limit_s = patience.explicit_load_s
        try:
            async with telling(self.clients, self.name):
                response = await ask(self.clients, self.name, question, timeout_s=limit_s, load_s=limit_s)
        except Unanswered as error:
            if not error.timed_out:
                raise
            raise StillLoading(
                f"{where}: still loading after {span(limit_s)}; "
                f"give it more time with {patience.option}, or see the server's log"
            ) from error
        if response.status_code != httpx.codes.OK:
            raise HostError(f"{where}: {explain_answer(response, self.url)}")

    async def _find(self, path: str) -> Any:
        """Return the JSON of an optional page; None if this server does not have it."""
        response = await self._request(Question("GET", path))
        try:
            return parse_json(response.content) if response.status_code == httpx.codes.OK else None
        except Fault:
            return None

    async def _answers(self, path: str) -> bool:
        try:
            await self.clients.control.get(path)
        except httpx.TransportError as error:
            return isinstance(error, wire.BadAnswer)
        return True

    async def _ask_ids(self, body: Mapping[str, Any]) -> Ids:
        """Return the token ids from ``/tokenize``."""
        found = (await self._ask_object(Question("POST", "/tokenize", body))).get("tokens")
        ids = [to_count(item) for item in found] if isinstance(found, list) else [None]
        tokens = tuple(token for token in ids if token is not None and token >= 0)
        if len(tokens) < len(ids):
            raise HostError(f"{self.name}: POST /tokenize: expected a list of token ids under 'tokens'")
        return tokens


def list_names(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of a listed model, with its aliases, as requests must write them."""
    aliases = entry.get("aliases")
    for name in (entry.get("id"), *(aliases if isinstance(aliases, list) else ())):
        if isinstance(name, str) and name:
            yield name


def show_names(names: Sequence[str]) -> str:
    """Join names for a message."""
    return ", ".join(map(clean, names)) or "nothing"
