"""Room 2: TLS as bytes in, bytes out, so that the socket stays ours and the kernel's stamps with it."""

from __future__ import annotations

import asyncio
import socket
import ssl

_READ_BYTES = 65_536


class Tls:
    """One connection's cipher. The plaintext arrives with the ciphertext that completes it."""

    def __init__(self, context: ssl.SSLContext, hostname: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self.ended = False
        """Whether the peer said that nothing more will come."""

    async def shake_hands(self, sock: socket.socket) -> None:
        """Agrees on keys with the peer; raises ssl.SSLError where there is no trust or no common ground."""
        loop = asyncio.get_running_loop()
        agreed = False
        while not agreed:
            try:
                self._object.do_handshake()
                agreed = True
            except ssl.SSLWantReadError:
                pass
            await loop.sock_sendall(sock, self._outgoing.read())
            if not agreed:
                self._put(await loop.sock_recv(sock, _READ_BYTES))

    def seal(self, plaintext: bytes) -> bytes:
        """Plaintext -> ciphertext."""
        self._object.write(plaintext)
        return self._outgoing.read()

    def open(self, ciphertext: bytes) -> bytes:
        """Ciphertext, empty at the connection's end, -> the plaintext that it completes; raises ssl.SSLError."""
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
