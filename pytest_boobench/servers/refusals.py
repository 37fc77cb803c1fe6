"""Explain why a control request got no useful answer, and what would be right."""

from __future__ import annotations

import html
import json
import os
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from pytest_boobench.untrusted import Fault, clean, parse_json

KEY_WANTED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
"""The answers to a request without a key, or with a wrong one."""
NO_KEY, ANOTHER_KEY = "the host wants a key", "the host wants another key"
_UNSEEN = re.compile(r"<!--.*?-->|<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
"""The parts of a page that a browser does not show."""
_PRIVATE = re.compile(r"[?#].*|(?<=//)[^/?#]*@", re.DOTALL)
"""The parts of an address that may hold a secret."""
_WRONG_NAME = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_SILENCES: tuple[tuple[type[httpx.RequestError], type, str], ...] = (
    (httpx.ConnectTimeout, ssl.SSLError, "it took the connection and spoke no TLS; should the url begin with http://?"),
    (
        httpx.ConnectTimeout,
        object,
        "no connection in time; is it switched on and on this network, is a firewall in between?",
    ),
    (
        httpx.TimeoutException,
        object,
        "it took the connection and gave no answer in time; is it a web server, and does it still work?",
    ),
    (
        httpx.RequestError,
        ssl.SSLCertVerificationError,
        "its certificate is not trusted ({reason}); name its CA's file as verify in the hosts file",
    ),
    (httpx.RequestError, ssl.SSLError, "TLS failed ({reason}); should the url begin with http://?"),
    (httpx.RequestError, socket.gaierror, "its name has no address; check the url in the hosts file"),
    (httpx.RequestError, ConnectionRefusedError, "connection refused; is the server running, and at this port?"),
    (httpx.ConnectError, OSError, "{reason}; is it switched on and on this network?"),
    (
        httpx.RequestError,
        object,
        "it hung up without an answer; should the url begin with https://, is the port right?",
    ),
)
"""httpx's error, the system error behind it, and the explanation; the first matching row counts."""


def explain_silence(error: httpx.RequestError) -> str:
    """Explain why no readable answer came."""
    cause = _find_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _WRONG_NAME:
        return "its certificate is for another name; write the url with that name"
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
        return "its answer is not HTTP; is the port right?"
    rows = (text for kind, behind, text in _SILENCES if isinstance(error, kind) and isinstance(cause, behind))
    return next(rows).format(reason=_read_reason(cause))


def is_refused(error: httpx.RequestError) -> bool:
    """Whether nothing listens there: the server may be starting."""
    return isinstance(_find_cause(error), ConnectionRefusedError)


def _read_reason(cause: OSError | None) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, ssl.SSLError):
        return (cause.reason or str(cause)).lower().replace("_", " ")
    return os.strerror(cause.errno).lower() if cause is not None and cause.errno else str(cause)


def _find_cause(error: BaseException) -> OSError | None:
    """The system error that caused httpx's; if httpx tried several addresses, that of the first."""
    found = None
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        found = cause if isinstance(cause, OSError) else found
        cause = cause.__cause__ or cause.__context__
    return found


def explain_answer(response: httpx.Response, url: str) -> str:
    """Explain an answer that is not a 200 with JSON, from the server at ``url``."""
    status = response.status_code
    if status in KEY_WANTED:
        return explain_key(response)
    if response.has_redirect_location:
        to = clean(_PRIVATE.sub("", response.headers["location"]))
        return f"{status}: it redirects to {to}; the url must answer itself, without a login before it"
    if "html" in response.headers.get("content-type", ""):
        return f"{status}: the answer is a web page{_quote(response.content)}; is {url} an LLM server?"
    if status == httpx.codes.OK:
        return f"the answer is not JSON{_quote(response.content)}; is {url} an LLM server?"
    return f"{status}: {read_words(response.content)}"


def explain_key(response: httpx.Response) -> str:
    """Explain what to do about a 401 or a 403."""
    if "authorization" in response.request.headers:
        return f"{response.status_code}: {ANOTHER_KEY}; see api_key in the hosts file"
    return (
        f"{response.status_code}: {NO_KEY}; write api_key: ${{NAME}} in the hosts file, "
        "NAME being the environment variable that holds it"
    )


def read_words(content: bytes) -> str:
    """Return the message in an error's body, on one line: by `find_words` for JSON, else its first words."""
    try:
        return find_words(parse_json(content))
    except Fault:
        return clean(_read_text(content)) or "no body"


def find_words(body: Any) -> str:
    """Return the message in an error's JSON, in any of the usual shapes; all of the JSON if there is none."""
    for key in ("error", "message"):
        found = body.get(key) if isinstance(body, Mapping) else None
        body = found or body
    return clean(body if isinstance(body, str) else json.dumps(body, sort_keys=True)) or "no message"


def _quote(content: bytes) -> str:
    """The first words of a body, as ``: 'Welcome to nginx!'``; empty if there are none."""
    text = clean(_read_text(content), 80)
    return f": {text!r}" if text else ""


def _read_text(content: bytes) -> str:
    """The visible text of a body, web page or not."""
    text = content[:10_000].decode("utf-8", "replace")
    return html.unescape(_UNSEEN.sub(" ", text)) if "<" in text else text
