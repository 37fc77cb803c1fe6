"""Who has which host: leases against other sessions, in a store that machines share; under pytest-xdist, workers.

Here stand both ends of what xdist's controller hands to its workers. Workers never open the store.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_boobench.errors import HostError, StoreError
from pytest_boobench.facts import ClientFacts
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.plain import rebuild
from pytest_boobench.plugin.ordering import CellPlace, Loaded, Ready, find_choices, plan, read_node_id
from pytest_boobench.plugin.references import Deliver
from pytest_boobench.plugin.scheduler import HostScheduler
from pytest_boobench.plugin.settings import Settings
from pytest_boobench.record import Baseline

if TYPE_CHECKING:
    from filelock import FileLock

    from pytest_boobench.plugin.recorder import Recorder
    from pytest_boobench.store import Lease

TOLD_BY_REFERENCES = "boobench_references"
"""Under this name a worker's output has what its machines' references said."""
_HEARTBEAT_S = 20.0
_SCHEDULED = ("load", "worksteal", "loadscope", "loadfile", "loadgroup")
"""The modes that spread items over workers. In ``each`` every worker runs all of them, and machines are only locked."""


@dataclass(frozen=True, slots=True)
class BenchPlace:
    """The process that measures: the one that also reports, or one of several workers."""

    run_uid: str
    worker: str
    client: ClientFacts
    baselines: Callable[[], Mapping[str, Baseline]]
    deliver: Deliver
    """Takes what a machine's reference said to the process that reports."""
    puts_off: bool = True
    """Whether a doubtful cell can run again later; else its further blocks follow at once, after the wait."""

    @classmethod
    def of_worker(cls, workerinput: Mapping[str, Any], deliver: Deliver) -> BenchPlace:
        """A worker, by what `Workers` hands to it."""
        plain: Mapping[str, Any] = workerinput["boobench_baselines"]
        return cls(
            workerinput["boobench_session"],
            workerinput["workerid"],
            ClientFacts(**workerinput["boobench_client"]),
            lambda: {key: rebuild(Baseline, baseline) for key, baseline in plain.items()},
            deliver,
            workerinput["boobench_puts_off"],
        )


class Leases:
    """The machines that this session has leased; one thread sends heartbeats until all are given back."""

    def __init__(self, recorder: Recorder, inventory: Inventory, *, wait_s: float) -> None:
        self._recorder = recorder
        self._inventory = inventory
        self._wait_s = wait_s
        self._addresses: set[str] = set()
        self._over = threading.Event()
        self._heart: threading.Thread | None = None
        self._life: FileLock | None = None
        """Held as long as the session runs: where it is killed, the next one on this machine knows that it is over."""

    def take(self, name: str) -> None:
        """Lease a host's machine, waiting as long as was asked; HostError with its owner if that was too short."""
        address = self._inventory.get(name).exclusive_among_machines(self._recorder.environment.machine)
        if address is None or address in self._addresses:
            return
        from pytest_boobench.hosts import access

        if self._life is None:
            self._life = access.hold_session(self._recorder.session_uid)
        end = time.monotonic() + self._wait_s
        while (held := self._ask(address)) is not None:
            if time.monotonic() >= end:
                raise HostError(
                    f"{name}: its machine ({address}) is leased by another boobench session ({held.owner}) since "
                    f"{held.taken_at:%H:%M:%S} UTC, last heard of at {held.heartbeat_at:%H:%M:%S}; "
                    "wait for it with --boobench-wait 10m"
                )
            time.sleep(1.0)
        self._addresses.add(address)
        if self._heart is None:
            self._heart = threading.Thread(target=self._beat, name="boobench-leases", daemon=True)
            self._heart.start()

    @pytest.hookimpl(tryfirst=True)
    def pytest_boobench_acquire_host_access(self, host: str) -> None:
        """Lease the host before anybody grants it; never answers the hook."""
        self.take(host)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """End the heartbeats and give all leases back, while the store is still open."""
        self._over.set()
        if self._heart is not None:
            self._heart.join()
            with contextlib.suppress(StoreError):  # a store that is gone takes them back by itself, as they grow old
                self._recorder.open_store().give_leases_back(self._recorder.session_uid)
        if self._life is not None:
            from pytest_boobench.hosts import living

            living.give_back(self._life)

    def _ask(self, address: str) -> Lease | None:
        """The lease of another session that has the machine; None where it is ours."""
        from pytest_boobench.hosts import access

        around = self._recorder.environment
        job = f", job {around.ci['job']}" if "job" in around.ci else ""
        owner = f"{around.user or 'somebody'} on {around.machine or 'a machine without a name'}{job}"
        session = self._recorder.session_uid
        try:
            store = self._recorder.open_store()
            held = store.take_lease(address, owner, session)
            if held is not None and access.has_died_here(held.session):
                store.give_leases_back(held.session)
                held = store.take_lease(address, owner, session)
            return held
        except StoreError as error:
            raise HostError(f"{address}: no lease to be had: {error}") from error

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_S):
            for address in tuple(self._addresses):
                with contextlib.suppress(HostError):  # the next beat may get through; a lease outlives several
                    self._ask(address)


class Workers:
    """xdist's controller: hands facts and items to its workers. ``ready`` is asked once, before the first cell."""

    def __init__(
        self, recorder: Recorder, settings: Settings, inventory: Inventory, *, ready: Ready, leases: Leases | None
    ) -> None:
        self._recorder = recorder
        self._settings = settings
        self._inventory = inventory
        self._ready = ready
        self._leases = leases
        self._baselines: dict[str, Any] | None = None
        self._crashes = 0
        self._scheduler: HostScheduler | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Sequence[object]) -> None:
        """How many processes measure at once is a fact of the run."""
        self._recorder.workers = len(specs)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand over what `BenchPlace.of_worker` reads; also to a worker that replaces a crashed one."""
        if self._baselines is None:
            self._baselines = {key: asdict(baseline) for key, baseline in self._recorder.baselines().items()}
        node.workerinput["boobench_session"] = self._recorder.session_uid
        node.workerinput["boobench_baselines"] = self._baselines
        node.workerinput["boobench_puts_off"] = node.config.getoption("dist") in _SCHEDULED
        node.workerinput["boobench_client"] = asdict(self._recorder.client)

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> HostScheduler | None:
        """One machine, one worker, whatever ``--dist`` says; None leaves the modes that spread nothing to xdist."""
        dist: str = config.getoption("dist")
        if dist not in _SCHEDULED:
            return None
        from xdist.dsession import get_default_max_worker_restart  # type: ignore[import-untyped]

        patterns = self._settings.patterns
        limit: int | None = get_default_max_worker_restart(config)
        self._scheduler = HostScheduler(
            config,
            workers=self._recorder.workers,
            plan=partial(
                plan,
                dist=dist,
                machine_of=self._machine_of,
                patterns=patterns,
                begin=self._begin,
                is_started=lambda host: self._inventory.get(host).start is not None,
            ),
            repeats=lambda node_id: read_node_id(node_id, patterns) is not None,
            replaces_crashed=lambda: limit is None or self._crashes <= limit,
        )
        return self._scheduler

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A cell that is put off comes again at the end of its batch."""
        if getattr(report, "boobench_put_off", "") and self._scheduler is not None:
            self._scheduler.put_off(report.nodeid)

    def _machine_of(self, host: str) -> str | None:
        """What two cells may not use at once: a machine; in a duet all of them use the reference too."""
        if host not in self._inventory.hosts:
            return None
        return "duet" if self._settings.duet else self._inventory.get(host).exclusive

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """In the modes that spread nothing, lease the hosts as soon as it is known which of them have cells."""
        if self._scheduler is None:
            places = (read_node_id(node_id, self._settings.patterns) for node_id in ids)
            self._lease({place.host for place in places if place and self._machine_of(place.host) is not None})

    def _begin(self, places: Collection[CellPlace]) -> Loaded:
        """Lease the hosts that have cells; ask what they have loaded where the order depends on it."""
        self._lease({place.host for place in places})
        return self._ready(find_choices(places))

    def _lease(self, hosts: set[str]) -> None:
        """UsageError, which ends the session, where another session has a host."""
        try:
            if self._leases is not None and hosts:
                for host in sorted(hosts.union(filter(None, [self._settings.duet]))):
                    self._leases.take(host)
        except HostError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Take what a worker's references said. xdist stops replacing workers that crash when too many did."""
        for told in getattr(node, "workeroutput", {}).get(TOLD_BY_REFERENCES, ()):
            self._recorder.take_reference(told)
        self._crashes += error is not None
