"""Room 2: a new TCP connection for one request: how long opening it took, and when the last byte was written."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pytest_boobench import units
from pytest_boobench.wire.clock import ANCILLARY_BYTES, Ancillary, ask_for_kernel_stamps
from pytest_boobench.wire.exchange import Failure, NoAnswer
from pytest_boobench.wire.sender import Write

_READ_BYTES = 65_536
_LAST_WRITE_BYTES = 16_384
_POLL_S = 0.001
Receive = Callable[[], tuple[bytes, Ancillary, int, Any]]
"""Like ``socket.recvmsg``: what has arrived (under TLS: ciphertext), empty at the end, and its ancillary data."""
Punctual = Callable[[memoryview, Write], Awaitable[memoryview]]
"""Calls a write with these bytes at a planned time, and returns the rest."""


class Tls:
    """TLS of one connection, apart from its socket. Plaintext has the arrival of the ciphertext that completes it."""

    def __init__(self, context: ssl.SSLContext, hostname: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self.ended = False
        """Whether the peer has said that no more data follow."""

    async def shake_hands(self, sock: socket.socket) -> None:
        """Agree on keys with the peer; ssl.SSLError where the certificate is not trusted or no cipher is common."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._object.do_handshake()
                break
            except ssl.SSLWantReadError:
                await loop.sock_sendall(sock, self._outgoing.read())
                self._put(await loop.sock_recv(sock, _READ_BYTES))
        await loop.sock_sendall(sock, self._outgoing.read())

    def seal(self, plaintext: bytes) -> bytes:
        """Plaintext -> ciphertext."""
        self._object.write(plaintext)
        return self._outgoing.read()

    def open(self, ciphertext: bytes) -> bytes:
        """Ciphertext (empty at the end of the connection) -> the plaintext that it completes; raises ssl.SSLError."""
        self._put(ciphertext)
        parts = []
        try:
            while part := self._object.read(_READ_BYTES):
                parts.append(part)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.ended = True
        return b"".join(parts)

    def _put(self, ciphertext: bytes) -> None:
        if ciphertext:
            self._incoming.write(ciphertext)
        else:
            self._incoming.write_eof()


@dataclass(frozen=True, slots=True)
class Address:
    """Where a host listens."""

    host: str
    """A name in ASCII, or an IP address."""
    port: int
    tls: ssl.SSLContext | None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Connection:
    """A connected, non-blocking socket, with TLS on it where ``tls`` is given."""

    def __init__(self, sock: socket.socket, where: str, *, stamped: bool, tls: Tls | None, connect_ms: float) -> None:
        self.sock = sock
        self.where = where
        """Host and port, for messages."""
        self.tls = tls
        self.connect_ms = connect_ms
        self.opened_ns = self.last_write_ns = time.monotonic_ns()
        """The monotonic clock when it was open, and right before the last write so far."""
        self.receive: Receive = (
            partial(sock.recvmsg, _READ_BYTES, ANCILLARY_BYTES) if stamped else partial(_receive_unstamped, sock)
        )
        """Raises OSError."""

    def seal(self, message: bytes) -> bytes:
        """A message as it is sent: ciphertext under TLS. Not to be called while another thread receives."""
        return self.tls.seal(message) if self.tls else message

    async def send(self, sealed: bytes, answered: asyncio.Future[Any], punctual: Punctual | None = None) -> str | None:
        """Write a request; the reason where not all of it was sent: the connection was lost, or an answer came before.

        It is sent in two parts, so that the last write, whose time is kept, is a small one. ``punctual`` writes it.
        """
        cut = max(len(sealed) - _LAST_WRITE_BYTES, 0)
        try:
            whole = memoryview(sealed)
            out, last = await self._write(whole[:cut], answered), whole[cut:]
            if out and punctual is not None:
                last = await punctual(last, self._write_now)
            out = out and await self._write(last, answered)
        except OSError as error:
            return reason(error)
        return None if out else "the connection ended"

    async def _write(self, part: memoryview, answered: asyncio.Future[Any]) -> bool:
        rest = part
        while rest and not answered.done():
            before, rest = rest, self._write_now(rest)
            if len(rest) == len(before):
                await self._until_writable(answered)
        return not rest

    def _write_now(self, part: memoryview) -> memoryview:
        """Write what fits without waiting, and note when; the rest."""
        self.last_write_ns = time.monotonic_ns()
        try:
            return part[self.sock.send(part) :]
        except BlockingIOError:
            return part

    async def _until_writable(self, answered: asyncio.Future[Any]) -> None:
        loop = asyncio.get_running_loop()
        writable_or_answered = asyncio.Event()
        try:
            loop.add_writer(self.sock, writable_or_answered.set)
        except NotImplementedError:
            await asyncio.sleep(_POLL_S)
            return
        answered.add_done_callback(lambda _: writable_or_answered.set())
        try:
            await writable_or_answered.wait()
        finally:
            loop.remove_writer(self.sock)

    def close(self) -> None:
        """Close the socket; the peer sees it at once, even in the middle of an answer."""
        self.sock.close()


def _receive_unstamped(sock: socket.socket) -> tuple[bytes, Ancillary, int, Any]:
    return sock.recv(_READ_BYTES), (), 0, None


async def connect(address: Address, limit_s: float) -> Connection:
    """Open a connection, trying each address of a name, within ``limit_s`` seconds including TLS. Raises NoAnswer."""
    began_ns = time.monotonic_ns()
    try:
        async with asyncio.timeout(limit_s):
            sock, stamped = await _reach(address.host.encode("ascii"), address.port)
            tls = await _secure(sock, address.tls, address.host) if address.tls else None
    except TimeoutError:
        text = f"{address}: no connection within {units.quantity(limit_s, 's')}"
        raise NoAnswer(Failure("connect", text)) from None
    except OSError as error:
        text = f"{address}: {reason(error)}, expected a server that answers there"
        raise NoAnswer(Failure("connect", text)) from error
    connect_ms = (time.monotonic_ns() - began_ns) / 1e6
    return Connection(sock, str(address), stamped=stamped, tls=tls, connect_ms=connect_ms)


async def _reach(host: bytes, port: int) -> tuple[socket.socket, bool]:
    loop = asyncio.get_running_loop()
    errors = []
    for family, kind, protocol, _, address in await _addresses(host, port):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stamped = ask_for_kernel_stamps(sock)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            errors.append(error)
        except BaseException:
            sock.close()
            raise
        else:
            return sock, stamped
    raise errors[0]


async def _addresses(host: bytes, port: int) -> list[tuple[Any, ...]]:
    try:  # an address needs no lookup and so no thread
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except socket.gaierror:
        return list(await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM))


async def _secure(sock: socket.socket, tls_context: ssl.SSLContext, host: str) -> Tls:
    tls = Tls(tls_context, host)
    try:
        await tls.shake_hands(sock)
    except BaseException:
        sock.close()
        raise
    return tls


def reason(error: OSError) -> str:
    """The system's text for an error of a socket, in lower case."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({(error.reason or str(error)).lower().replace('_', ' ')})"
    if isinstance(error, socket.gaierror) or error.errno is None:
        return str(error.strerror or error).lower()
    return os.strerror(error.errno).lower()
