"""pytest-xdist's controller: what it hands to its workers, and who of them runs what; workers never open the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_boobench.errors import HostError
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.plugin.options import Settings
from pytest_boobench.plugin.ordering import CellPlace, Loaded, Ready, find_choices, know_nothing, plan, read_node_id
from pytest_boobench.plugin.scheduler import HostScheduler

if TYPE_CHECKING:
    from pytest_boobench.plugin.leases import Leases
    from pytest_boobench.plugin.recorder import Recorder

_SCHEDULED = ("load", "worksteal", "loadscope", "loadfile", "loadgroup")
"""The modes that spread items over workers. In ``each`` every worker runs all of them, and machines are only locked."""


class Workers:
    """Registered in the controller where pytest-xdist is loaded; ``ready`` is asked once, before the first cell."""

    def __init__(
        self,
        recorder: Recorder,
        settings: Settings,
        inventory: Inventory,
        *,
        ready: Ready = know_nothing,
        leases: Leases | None = None,
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
        """Runs once for each worker, also for one that replaces a crashed one."""
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
            plan=partial(plan, dist=dist, machine_of=self._machine_of, patterns=patterns, begin=self._begin),
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
        """In the modes that spread nothing, hosts are leased as soon as it is known which of them have cells."""
        if self._scheduler is None:
            places = (read_node_id(node_id, self._settings.patterns) for node_id in ids)
            self._lease(
                {place.host for place in places if place is not None and self._machine_of(place.host) is not None}
            )

    def _begin(self, places: Collection[CellPlace]) -> Loaded:
        """Lease the hosts that have cells; ask what they have loaded where the order depends on it."""
        self._lease({place.host for place in places})
        return self._ready(find_choices(places))

    def _lease(self, hosts: Collection[str]) -> None:
        """A host that is leased by others ends the session."""
        try:
            if self._leases is not None and hosts:
                for host in sorted({*hosts, *filter(None, (self._settings.duet,))}):
                    self._leases.take(host)
        except HostError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: object | None) -> None:
        """xdist stops replacing workers that crash when too many did."""
        self._crashes += error is not None
