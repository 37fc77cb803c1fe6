"""Door 3: who may ask. Everything that is not refused here comes from somebody who has seen the terminal.

A web page elsewhere can make a browser send requests to this machine, and a name that it controls may point here (DNS
rebinding). So the Host header must be one of a few exact names, what changes something needs a header that no form can
send, and all but the page's own files need a cookie, which only the token in the terminal gives.
"""

from __future__ import annotations

import hmac
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

import psutil
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pytest_boobench.errors import BoobenchError
from pytest_boobench.page.api_types import ApiProblem, BusyHost, ErrorAnswer, to_json

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
MOST_BODY_BYTES = 1 << 20
MOST_TALK_BYTES = 24 << 20
"""Of an exchange, which may have pictures in it."""
MOST_RUN_BYTES = 8 << 20
"""Of a run, which may name 10,000 cells."""
_MOST_BYTES = {"/api/try": MOST_TALK_BYTES, "/api/ab": MOST_TALK_BYTES, "/api/runs": MOST_RUN_BYTES}
_OPEN = ("/api/login",)
_CHANGING = ("POST", "DELETE")
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_MOST_SESSIONS = 100


class ApiRefusal(BoobenchError):  # noqa: N818  # the answer to a request, not our error
    """A request that is answered with an error: its status, what is wrong, and in which field."""

    def __init__(
        self,
        status: int,
        text: str,
        where: str | None = None,
        *,
        busy: tuple[BusyHost, ...] = (),
        shared: tuple[str, ...] = (),
    ) -> None:
        super().__init__(text)
        self.status = status
        self.answer = ErrorAnswer(error=ApiProblem(message=str(self), where=where), busy=busy, shared=shared)


def find_names(address: str, port: int) -> frozenset[str]:
    """The Host headers that mean this server: loopback, and the address that it listens on.

    If it listens on every address: each address and the names of this machine, and no others.
    """
    names = {"127.0.0.1", "localhost", "[::1]"}
    if address in ("0.0.0.0", "::"):  # noqa: S104  # the user's own choice
        cards = [one for several in psutil.net_if_addrs().values() for one in several]
        names |= {one.address for one in cards if one.family == socket.AF_INET}
        names |= {f"[{one.address.partition('%')[0]}]" for one in cards if one.family == socket.AF_INET6}
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    else:
        names.add(f"[{address}]" if ":" in address else address.lower())
    ports = {f":{port}"} | ({""} if port == 80 else set())
    return frozenset(f"{name}{end}" for name in names for end in ports)


@dataclass(eq=False)
class Doorkeeper:
    """The tokens that were given out, and the cookies of those who came with one."""

    port: int
    names: frozenset[str]
    announce: Callable[[str], None]
    """Shows the terminal a new token, once the last one was used."""
    _tokens: set[str] = field(default_factory=set)
    _sessions: list[str] = field(default_factory=list)

    @property
    def cookie(self) -> str:
        """Its name: cookies do not know ports, so that those of two servers would be one."""
        return f"boobench-{self.port}"

    def issue(self) -> str:
        """A token that opens the page once."""
        token = secrets.token_urlsafe(32)
        self._tokens = {token}
        return token

    def admit(self, token: str) -> str:
        """The value of the cookie for somebody with the token, which is used up. ApiRefusal for any other."""
        known = [one for one in self._tokens if hmac.compare_digest(one.encode(), token.encode("utf-8", "replace"))]
        if not known:
            raise ApiRefusal(401, "the token was used or is not ours; the terminal shows the address that works now")
        session = secrets.token_urlsafe(32)
        self._sessions = [*self._sessions[1 - _MOST_SESSIONS :], session]
        self.announce(self.issue())
        return session

    def knows(self, headers: Headers) -> bool:
        """Whether the request has a cookie of ours."""
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return False
        given = cookies[self.cookie].value if self.cookie in cookies else ""
        return any(hmac.compare_digest(one, given) for one in self._sessions) if given.isascii() else False


class Guard:
    """Around the whole application: refuses what is not from the page, and adds the headers that protect it."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._answer(scope, receive, _with_headers(send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = Headers(scope=scope)
            _require_ours(scope, headers, self._doorkeeper.names)
            if scope["path"].startswith("/api/") and scope["path"] not in _OPEN and not self._doorkeeper.knows(headers):
                raise ApiRefusal(401, "no cookie of this server; open the address that the terminal shows")
            if scope["method"] in _CHANGING:
                receive = await _read_body(scope, headers, receive)
        except ApiRefusal as refusal:
            await _send_refusal(refusal, send)
        else:
            await self._app(scope, receive, send)


def _require_ours(scope: Scope, headers: Headers, names: frozenset[str]) -> None:
    """ApiRefusal for a request that another page may have caused."""
    method, path = scope["method"], scope["path"]
    if method not in ("GET", "HEAD", *_CHANGING):
        raise ApiRefusal(405, f"{method}: expected GET, POST or DELETE")
    hosts = headers.getlist("host")
    if len(hosts) != 1 or hosts[0].lower() not in names:
        raise ApiRefusal(403, "Host: not a name of this server; open the address that the terminal shows")
    origins, sites = headers.getlist("origin"), headers.getlist("sec-fetch-site")
    if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
        raise ApiRefusal(403, "Origin: another page may ask nothing here")
    allowed = ("same-origin",) if method in _CHANGING else ("same-origin", "none")
    if path.startswith("/api/") and any(site not in allowed for site in sites):
        raise ApiRefusal(403, "Sec-Fetch-Site: another page may ask nothing here")
    if method in _CHANGING and headers.get("x-boobench") != "page":
        raise ApiRefusal(403, "X-Boobench: is missing; expected the header with the value page")


async def _read_body(scope: Scope, headers: Headers, receive: Receive) -> Receive:
    """The whole body, as far as it may be long; ApiRefusal for one that is no JSON by its type, or too long."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiRefusal(415, "Content-Type: expected application/json")
    most = _MOST_BYTES.get(scope["path"], MOST_BODY_BYTES)
    too_long = ApiRefusal(413, f"the body is longer than {most >> 20} MB")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 15 or int(length) > most:
        raise too_long
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ApiRefusal(400, "the body broke off")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise too_long
    parts: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return parts.pop() if parts else await receive()

    return replay


def _with_headers(send: Send) -> Send:
    async def send_protected(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_protected


async def _send_refusal(refusal: ApiRefusal, send: Send) -> None:
    body = to_json(refusal.answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
