"""Room 7: sends alerts to a webhook, to Slack, or as issues of GitHub or GitLab.

The URL may be the secret itself, as Slack's is. So it is in no message, no log and no error.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import httpx

from pytest_boobench.errors import BoobenchError
from pytest_boobench.reports.alert_steps import Told
from pytest_boobench.reports.alert_texts import mark_alert, mark_step, to_slack, to_webhook, write_body, write_title
from pytest_boobench.reports.text import without_nan
from pytest_boobench.untrusted import Fault, learn_secret, learn_url, parse_json
from pytest_boobench.wire.http_clients import LOGGERS, BadAnswer, control_client

Shape = Literal["github", "gitlab", "webhook", "slack"]
TOKEN = "BOOBENCH_NOTIFY_TOKEN"  # noqa: S105  # the variable's name
"""The environment variable with the token for the receiver, sent as ``Authorization: Bearer``."""
_LABEL = "boobench"
_OPAQUE = re.compile(r"(?=.*[A-Z0-9]).{8,}")
"""A part of a URL that may be a key: long, and no plain word."""


class UnsentError(BoobenchError):
    """Alerts that could not be sent; the message does not have the URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where alerts go."""

    url: str
    shape: Shape
    token: str | None = None

    def with_shape(self, shape: Shape | None) -> Receiver:
        """The same in another shape; None: in its own."""
        return self if shape is None else replace(self, shape=shape)

    @property
    def keeps_issues(self) -> bool:
        """Whether it is a forge, which has an issue for each alert."""
        return self.shape in _FORGES

    def __repr__(self) -> str:
        return f"Receiver(url=…, shape={self.shape!r}, token=…)"


def read_receiver(url: str, shape: Shape | None = None, token: str | None = None) -> Receiver:
    """Check a URL and keep it out of all output. The shape is found out from the URL where it is not given.

    Raises ValueError that says what would be right, without the URL.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and bool(httpx.URL(url))
    except (ValueError, httpx.InvalidURL):
        known = False
    if not known:
        raise ValueError(
            "expected a URL such as https://hooks.example.com/…; it is not shown, since it may be a secret"
        )
    learn_url(url)
    for part in (*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query)), token or ""):
        if _OPAQUE.fullmatch(part) or part == token:
            learn_secret(part)
    return Receiver(url=url, shape=shape or _guess_shape(parts.hostname or "", parts.path), token=token or None)


def _guess_shape(host: str, path: str) -> Shape:
    if host == "hooks.slack.com":
        return "slack"
    if re.search(r"/repos/[^/]+/[^/]+/issues/?$", path):
        return "github"
    return "gitlab" if re.search(r"/projects/[^/]+/issues/?$", path) else "webhook"


def send(receiver: Receiver, told: Sequence[Told], session: str) -> None:
    """Send what a session did to alerts, if it did anything. Raises UnsentError in one sentence."""
    if told:
        with _silent():
            asyncio.run(_send(receiver, told, session))


async def _send(receiver: Receiver, told: Sequence[Told], session: str) -> None:
    async with _open(receiver) as post:
        if receiver.shape == "webhook":
            await post("POST", "", to_webhook(told, session))
        elif receiver.shape == "slack":
            await post("POST", "", to_slack(told, session))
        else:
            tracker = _Tracker(_FORGES[receiver.shape], post)
            for one in told:
                await tracker.tell(one)


class _Post:
    """Sends one request below the receiver's URL, and returns its answer as plain data, or None."""

    def __init__(self, client: httpx.AsyncClient, url: httpx.URL) -> None:
        self._client = client
        self._url = url

    async def __call__(self, method: str, below: str, body: Mapping[str, Any] | None = None, **query: str) -> Any:
        """``below`` is added to the URL's path; ``query`` to its query. Raises UnsentError."""
        url = self._url
        if below:
            url = url.copy_with(path=f"{url.path.rstrip('/')}/{below}")
        try:
            response = await self._client.request(
                method, url.copy_merge_params(query), json=None if body is None else without_nan(body)
            )
        except httpx.TransportError as error:
            raise UnsentError(f"not sent: {_explain(error)}") from None  # its own text may have the URL
        if not response.is_success:
            raise UnsentError(f"not sent: the receiver answers {response.status_code}, expected 200 to 299")
        try:
            return parse_json(response.content)
        except Fault:
            return None


@asynccontextmanager
async def _open(receiver: Receiver) -> AsyncIterator[_Post]:
    url = httpx.URL(receiver.url)
    headers = {"User-Agent": "pytest-boobench"}
    if receiver.token:
        headers["Authorization"] = f"Bearer {receiver.token}"
    origin = str(url.copy_with(path="/", query=None, fragment=None))
    async with control_client(origin, headers, proxies_from_env=True) as client:
        yield _Post(client, url.copy_with(userinfo=b""))


def _explain(error: httpx.TransportError) -> str:
    if isinstance(error, BadAnswer):
        return f"the receiver: {error}"
    if isinstance(error, httpx.TimeoutException):
        return "the receiver does not answer in time"
    return "the receiver cannot be reached; is the URL right?"


@contextmanager
def _silent() -> Iterator[None]:
    """httpx logs each URL; nothing of that is logged here."""

    def drop(_: logging.LogRecord) -> bool:
        return False

    for name in LOGGERS:
        logging.getLogger(name).addFilter(drop)
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(drop)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forge:
    """How a forge names what it takes."""

    text: str
    number: str
    state: str
    """Of an open issue; both say ``closed`` of a closed one."""
    comments: str
    close: tuple[str, Mapping[str, str]]
    labels: list[str] | str


_FORGES: Mapping[str, _Forge] = {
    "github": _Forge(
        text="body",
        number="number",
        state="open",
        comments="comments",
        close=("PATCH", {"state": "closed"}),
        labels=[_LABEL],
    ),
    "gitlab": _Forge(
        text="description",
        number="iid",
        state="opened",
        comments="notes",
        close=("PUT", {"state_event": "close"}),
        labels=_LABEL,
    ),
}


@dataclass(frozen=True, slots=True)
class _Tracker:
    """The issues of a project: one for each alert, found again by the mark in its text."""

    forge: _Forge
    post: _Post

    async def tell(self, told: Told) -> None:
        """Open the alert's issue, add to it, or close it. A second time for the same session adds nothing.

        An alert that is over gets no new issue: nothing would close it. Nor does one whose issue a person closed; what
        confirms it is added there.
        """
        mark = mark_alert(told.alert)
        issue = await self._find(mark, self.forge.state)
        if issue is not None:
            await self._add(issue, told)
            if told.step == "closed":
                method, body = self.forge.close
                await self.post(method, issue, body)
        elif told.step != "closed" and not told.over:
            issue = await self._find(mark, "closed")
            await (self._open(told) if issue is None else self._add(issue, told))

    async def _open(self, told: Told) -> None:
        text = {"title": write_title(told.alert), self.forge.text: write_body(told)}
        await self.post("POST", "", {**text, "labels": self.forge.labels})

    async def _add(self, issue: str, told: Told) -> None:
        """Comment on the alert's issue, whose own text is the first step."""
        comments = f"{issue}/{self.forge.comments}"
        if told.step != "opened" and not await self._has(comments, mark_step(told)):
            await self.post("POST", comments, {"body": write_body(told)})

    async def _has(self, comments: str, mark: str) -> bool:
        """Whether one of the issue's comments has the mark."""
        listed = await self.post("GET", comments, per_page="100")
        told = listed if isinstance(listed, list) else ()
        return any(isinstance(one, Mapping) and mark in str(one.get("body")) for one in told)

    async def _find(self, mark: str, state: str) -> str | None:
        """The number of the alert's issue in this state, among the newest."""
        listed = await self.post("GET", "", state=state, labels=_LABEL, per_page="100")
        for issue in listed if isinstance(listed, list) else ():
            if isinstance(issue, Mapping) and mark in str(issue.get(self.forge.text)):
                number = issue.get(self.forge.number)
                return str(number) if isinstance(number, int) else None
        return None
