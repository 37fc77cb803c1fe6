"""Leases on machines, in a store that is shared: two CI runners never have one. The reporting side has them."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pytest_boobench.errors import HostError, StoreError
from pytest_boobench.hosts.inventory import Inventory

if TYPE_CHECKING:
    from pytest_boobench.plugin.recorder import Recorder
    from pytest_boobench.store import Lease

_HEARTBEAT_S = 20.0
_ASK_EVERY_S = 1.0


class Leases:
    """What this session has leased; one thread sends the heartbeats until all is given back."""

    def __init__(self, recorder: Recorder, inventory: Inventory, *, wait_s: float) -> None:
        self._recorder = recorder
        self._inventory = inventory
        self._wait_s = wait_s
        self._addresses: set[str] = set()
        self._over = threading.Event()
        self._heart: threading.Thread | None = None

    def take(self, name: str) -> None:
        """Lease a host's machine, waiting as long as was asked; HostError with whose it is if that was too short."""
        address = self._inventory.get(name).exclusive_among_machines(self._recorder.surroundings.machine)
        if address is None or address in self._addresses:
            return
        end = time.monotonic() + self._wait_s
        while (held := self._ask(address)) is not None:
            if time.monotonic() >= end:
                raise HostError(_refusal(name, address, held))
            time.sleep(_ASK_EVERY_S)
        self._addresses.add(address)
        if self._heart is None:
            self._heart = threading.Thread(target=self._beat, name="boobench-leases", daemon=True)
            self._heart.start()

    @pytest.hookimpl(tryfirst=True)
    def pytest_boobench_acquire_host_access(self, host: str) -> None:
        """Lease the host before anybody grants it; says nothing itself."""
        self.take(host)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """While the store is still open."""
        self.give_back()

    def give_back(self) -> None:
        """End the heartbeats and let others have the hosts."""
        self._over.set()
        if self._heart is not None:
            self._heart.join()
            self._recorder.open_store().give_leases_back(self._recorder.session_uid)

    def _ask(self, address: str) -> Lease | None:
        around = self._recorder.surroundings
        job = f", job {around.ci['job']}" if "job" in around.ci else ""
        owner = f"{around.user or 'somebody'} on {around.machine or 'a machine without a name'}{job}"
        try:
            return self._recorder.open_store().take_lease(address, owner, self._recorder.session_uid)
        except StoreError as error:
            raise HostError(f"{address}: no lease to be had: {error}") from error

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_S):
            for address in tuple(self._addresses):
                with contextlib.suppress(HostError):  # the next beat may get through; a lease outlives several
                    self._ask(address)


def _refusal(name: str, address: str, held: Lease) -> str:
    return (
        f"{name}: its machine ({address}) is leased by another boobench session ({held.owner}) since "
        f"{held.taken_at:%H:%M:%S} UTC, last heard of at {held.heartbeat_at:%H:%M:%S}; "
        "wait for it with --boobench-wait 10m"
    )
