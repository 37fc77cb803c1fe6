"""Room 2: requests that are not measured. Their answers come whole, unpacked, in time and of a size, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

MOST_BYTES = 32 * 2**20
"""No answer to a control request is as long, unpacked: a list of models takes kilobytes, token ids of a long prompt
some megabytes."""
_PACKING = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class BadAnswer(httpx.TransportError):
    """An answer that began and is of no use: endless, far too long, broken off, or packed wrongly. ``str`` says which
    and follows on the request's name."""


class ControlClient(httpx.AsyncClient):
    """httpx's client with a limit on the whole of a request: its read timeout is for all of the answer's bytes.

    httpx's own is for each step, so that a byte a second may go on for ever. Streams are left to those who read them.
    What goes wrong is always an httpx.TransportError.
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
                try:
                    body = await _read(response)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx.ReadTimeout) as error:
            if response is None:
                raise httpx.ReadTimeout("no answer in time", request=request) from error
            raise BadAnswer(f"its answer does not end within {limit_s:g} s", request=request) from error
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in _PACKING]
        return httpx.Response(
            response.status_code, headers=headers, content=body, request=request, extensions=response.extensions
        )


async def _read(response: httpx.Response) -> bytes:
    """All of an answer's body, unpacked."""
    body = bytearray()
    try:
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise BadAnswer(f"its answer is longer than {MOST_BYTES >> 20} MB", request=response.request)
    except httpx.DecodingError as error:
        raise BadAnswer("its answer is not packed as its header says", request=response.request) from error
    except (httpx.NetworkError, httpx.ProtocolError) as error:
        raise BadAnswer("its answer breaks off", request=response.request) from error
    return bytes(body)
