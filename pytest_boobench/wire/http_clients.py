"""Room 2: the two clients of a host: one for measured requests, and one of httpx for all others."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import ssl
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, Self
from urllib.request import getproxies

import httpx

from pytest_boobench.suite.cell import Timeouts
from pytest_boobench.untrusted import hide_secrets, learn_url
from pytest_boobench.wire.connection import Address
from pytest_boobench.wire.exchange import Exchange
from pytest_boobench.wire.http1 import write_head, write_request
from pytest_boobench.wire.transport import Transport

MOST_BYTES = 32 * 2**20
"""Limit of the answer to a control request, unpacked. The token ids of a long prompt take some megabytes."""
CONTROL_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
"""Of a control request; 15 s are for all of it."""
_PACKING = frozenset({"content-encoding", "content-length", "transfer-encoding"})
LOGGERS = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))
"""Who logs URLs, and status lines and headers of answers."""
_USUAL_TIMEOUTS = Timeouts()
_CONTROL_TIMEOUTS = Timeouts(connect_s=5.0, first_byte_s=15.0, request_s=15.0)
_Method = Literal["GET", "POST"]
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class BadAnswer(httpx.TransportError):
    """An answer that began but is of no use. ``str`` says why, as the end of a sentence that names the request."""


class ControlClient(httpx.AsyncClient):
    """httpx's client, but its read timeout is for the whole answer: httpx's own starts anew with each byte.

    Streams have httpx's own timeout. Every failure is an httpx.TransportError.
    """

    async def send(self, request: httpx.Request, *, stream: bool = False, **how: Any) -> httpx.Response:
        """As httpx's."""
        if stream:
            return await super().send(request, stream=True, **how)
        limit_s = request.extensions.get("timeout", {}).get("read")
        response: httpx.Response | None = None
        try:
            async with asyncio.timeout(limit_s):
                response = await super().send(request, stream=True, **how)
                async with aclosing(response):
                    body = await _read(response)
        except (TimeoutError, httpx.ReadTimeout) as error:
            if response is None:
                raise httpx.ReadTimeout("no answer in time", request=request) from error
            raise BadAnswer(f"its answer does not end within {limit_s:g} s", request=request) from error
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in _PACKING]
        return httpx.Response(
            response.status_code, headers=headers, content=body, request=request, extensions=response.extensions
        )


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    try:
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise BadAnswer(f"its answer is longer than {MOST_BYTES >> 20} MB", request=response.request)
    except httpx.DecodingError as error:
        raise BadAnswer("its answer is not compressed as its header says", request=response.request) from error
    except (httpx.NetworkError, httpx.ProtocolError) as error:
        raise BadAnswer("its answer breaks off", request=response.request) from error
    return bytes(body)


@functools.cache
def tls_context(verify: bool | Path = True) -> ssl.SSLContext:
    """The TLS context of all clients that check certificates in this way; making one costs tens of milliseconds.

    ``verify`` may be a file of CA certificates. True uses SSL_CERT_FILE and SSL_CERT_DIR.
    """
    if isinstance(verify, Path):
        return ssl.create_default_context(cafile=str(verify))
    return httpx.create_ssl_context(verify=verify)


def control_client(
    base_url: str,
    headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    *,
    proxies_from_env: bool = False,
) -> ControlClient:
    """The client of a host for lists, counters and tokenising."""
    url = httpx.URL(base_url)
    for known in (base_url, *(getproxies().values() if proxies_from_env else ())):
        learn_url(known)
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_hide_in_log)
    return ControlClient(
        base_url=url.copy_with(userinfo=b""),  # httpx logs URLs as they are
        headers=headers,
        auth=httpx.BasicAuth(url.username, url.password) if url.userinfo else None,
        verify=ssl_context or tls_context(),
        trust_env=proxies_from_env,
        timeout=CONTROL_TIMEOUT,
        limits=httpx.Limits(max_keepalive_connections=0),  # llama-server closes idle connections that it said to keep
    )


def _hide_in_log(record: logging.LogRecord) -> bool:
    """A filter for all records: it hides the secrets that a server may have sent back."""
    record.msg, record.args = hide_secrets(record.getMessage()), ()
    return True


class StreamClient:
    """A host's client for measured requests, never through a proxy; close it when no request is under way.

    It does without httpx, whose redirects, cookies, hooks and log would take processor time from the other streams.
    What all requests have in common is made once.
    """

    def __init__(
        self, base_url: str, headers: Mapping[str, str] | None = None, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        url = httpx.URL(base_url)
        secure = url.scheme == "https"
        self._address = Address(
            host=url.raw_host.decode("ascii"),
            port=url.port or (443 if secure else 80),
            tls=(ssl_context or tls_context()) if secure else None,
        )
        self._host, self._base_path = url.netloc, url.raw_path.rstrip(b"/")
        self._headers = dict(headers or {})
        self._heads: dict[tuple[_Method, str], bytes] = {}
        self._transport = Transport()

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        timeouts: Timeouts = _USUAL_TIMEOUTS,
        max_bytes: int | None = None,
        planned_ns: int | None = None,
    ) -> Exchange:
        """Send a body as JSON, if so planned at that time, and return the answer; limits and errors are those of
        `Transport.exchange`."""
        message = write_request(self._head("POST", path), _JSON.encode(body).encode())
        return await self._transport.exchange(self._address, message, timeouts, max_bytes, planned_ns)

    async def get(self, path: str) -> Exchange:
        """Ask something while requests are measured: in a third of the processor time that the other client takes.

        Limits are those of a control request; errors are those of `Transport.exchange`.
        """
        return await self._transport.exchange(
            self._address, write_request(self._head("GET", path)), _CONTROL_TIMEOUTS, MOST_BYTES
        )

    def _head(self, method: _Method, path: str) -> bytes:
        if (method, path) not in self._heads:
            target = self._base_path + httpx.URL(path).raw_path
            self._heads[method, path] = write_head(method, self._host, target, self._headers)
        return self._heads[method, path]

    async def aclose(self) -> None:
        """Close the transport."""
        self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
