"""Room 2: where callers come in: a client for measured streams, and an ordinary one for every other request."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx

from pytest_boobench.wire.transport import StampingTransport

CONTROL_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
FRESH_CONNECTIONS = httpx.Limits(max_keepalive_connections=0)
"""llama-server closes idle connections that it said to keep: a pooled one may die under the next request."""


@functools.cache
def tls_context(verify: bool | Path = True) -> ssl.SSLContext:
    """The process's one TLS context for a way to check certificates; making one costs tens of milliseconds.

    ``verify`` may be a file of CA certificates. True honours SSL_CERT_FILE and SSL_CERT_DIR.
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
) -> httpx.AsyncClient:
    """An ordinary httpx client for a host: lists, counters, tokenising; 15 s per step of a request."""
    url, auth = _split_credentials(base_url)
    return httpx.AsyncClient(
        base_url=url,
        headers=headers,
        auth=auth,
        verify=ssl_context or tls_context(),
        trust_env=proxies_from_env,
        timeout=CONTROL_TIMEOUT,
        limits=FRESH_CONNECTIONS,
    )


def stream_client(
    base_url: str, headers: Mapping[str, str] | None = None, ssl_context: ssl.SSLContext | None = None
) -> httpx.AsyncClient:
    """A client over the stamping transport, never through a proxy; close it.

    Give limits per request: ``extensions={"timeouts": Timeouts(…)}``.
    """
    url, auth = _split_credentials(base_url)
    transport = StampingTransport(ssl_context or tls_context())
    return httpx.AsyncClient(base_url=url, headers=headers, auth=auth, transport=transport, trust_env=False)


def _split_credentials(base_url: str) -> tuple[httpx.URL, httpx.BasicAuth | None]:
    """Takes user and password out of a URL: httpx logs URLs as they are."""
    url = httpx.URL(base_url)
    auth = httpx.BasicAuth(url.username, url.password) if url.userinfo else None
    return url.copy_with(userinfo=b""), auth
