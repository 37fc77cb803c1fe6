"""Room 2: which processes of this machine a server is, by the port that it listens on."""

from __future__ import annotations

from contextlib import suppress

import psutil

_TUNNELS = frozenset({"ssh", "sshd", "autossh", "kubectl", "cloudflared", "frpc", "chisel", "socat", "tailscaled"})
"""Programs that listen here for a server elsewhere."""


class ElsewhereError(Exception):
    """A port of this machine leads to a server on another one; the message says through what."""


def find_listening(port: int) -> frozenset[int]:
    """The process that listens on a port of this machine, and all that it started; empty if the system does not tell.

    Raises ElsewhereError if it is known to be a tunnel.
    """
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:  # macOS shows all connections to root alone
        return frozenset()
    listening = {
        one.pid
        for one in connections
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid
    }
    found = set(listening)
    for pid in listening:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if (name := process.name()) in _TUNNELS:
                raise ElsewhereError(f"port {port} is a tunnel ({name}): measure on the machine where the server runs")
            found |= {child.pid for child in process.children(recursive=True)}
    return frozenset(found)


def list_family(pid: int) -> frozenset[int]:
    """A process and all that it started."""
    with suppress(psutil.Error):
        return frozenset({pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))})
    return frozenset()
