"""Room 2: which way of watching a host offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_boobench.facts import OwnTraffic, Sighting, Traffic
from pytest_boobench.hosts.watching.interface import OwnMarks, Watcher
from pytest_boobench.hosts.watching.slots import SlotsWatcher
from pytest_boobench.hosts.watching.swap import SwapWatcher
from pytest_boobench.hosts.watching.vllm import VllmWatcher
from pytest_boobench.servers.clients import Clients
from pytest_boobench.servers.interface import Server


class UnknownWatcher:
    """For servers that say nothing of other requests: Ollama, LM Studio, plain OpenAI-compatible ones."""

    def __init__(self, model: str) -> None:
        self.model = model

    async def look(self) -> Sighting:
        """Not known."""
        return Sighting(known=False)

    async def begin(self, marks: OwnMarks) -> None:
        """There is nothing to look at."""

    async def end(self, own: OwnTraffic) -> Traffic:  # noqa: ARG002  # the others need it
        """All blank."""
        return Traffic(notes=("this kind of server cannot tell of foreign requests",))

    async def close(self) -> None:
        """Nothing runs."""


WATCHERS: Mapping[str, Callable[[Clients, str], Watcher]] = {
    "embedded": SlotsWatcher,
    "llama-server": SlotsWatcher,
    "llama-router": SlotsWatcher,
    "llama-swap": SwapWatcher,
    "vllm": VllmWatcher,
}
"""Kind of server -> what watches it."""


def choose(server: Server, model: str) -> Watcher:
    """A watcher for a host, and for one of its models at first; it contacts nothing until it is asked."""
    watch = WATCHERS.get(server.kind)
    return watch(server.clients, model) if watch is not None else UnknownWatcher(model)
