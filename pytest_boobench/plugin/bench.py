"""The measuring side, in each process that runs items: grants, measurements, verdicts. It never opens the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_boobench.errors import BoobenchError
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.plugin.options import Settings
from pytest_boobench.plugin.progress import Teller
from pytest_boobench.record import Baseline, CellRecord, Verdict, baseline_from_plain, identify, to_plain
from pytest_boobench.reports.junit import properties_of_record, properties_of_verdicts
from pytest_boobench.reports.sentences import failure_text
from pytest_boobench.suite.cell import Cell

if TYPE_CHECKING:
    from pytest_boobench.hosts.access import Grant, Hosts
    from pytest_boobench.plugin.recorder import Recorder

_BENCH = pytest.StashKey["Bench"]()
_RECORD = pytest.StashKey[CellRecord]()
_VERDICTS = pytest.StashKey[tuple[Verdict, ...]]()
PURPOSE = "bench"
T = TypeVar("T")


class Bench:
    """One process's measuring: an event loop and the hosts, both made at the first cell and ended with the session."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        inventory: Inventory,
        *,
        run_uid: str,
        worker: str,
        baselines: Callable[[], Mapping[str, Baseline]],
    ) -> None:
        self._config = config
        self._settings = settings
        self._inventory = inventory
        self._run_uid = run_uid
        self._worker = worker
        self._baselines = cache(baselines)
        self._runner: asyncio.Runner | None = None
        self._hosts: Hosts | None = None
        config.stash[_BENCH] = self

    @classmethod
    def of(cls, config: pytest.Config) -> Bench:
        """The process's bench."""
        return config.stash[_BENCH]

    @classmethod
    def reporting_here(
        cls, config: pytest.Config, settings: Settings, inventory: Inventory, recorder: Recorder
    ) -> Bench:
        """Measuring in the process that also reports: baselines come from the store."""
        return cls(
            config, settings, inventory, run_uid=recorder.session_uid, worker="main", baselines=recorder.baselines
        )

    @classmethod
    def of_worker(
        cls, config: pytest.Config, settings: Settings, inventory: Inventory, workerinput: Mapping[str, Any]
    ) -> Bench:
        """Measuring in a worker: what it needs to know came with it from the controller."""
        plain: Mapping[str, Any] = workerinput["boobench_baselines"]
        return cls(
            config,
            settings,
            inventory,
            run_uid=workerinput["boobench_session"],
            worker=workerinput["workerid"],
            baselines=lambda: {key: baseline_from_plain(baseline) for key, baseline in plain.items()},
        )

    @contextmanager
    def access(self, item: pytest.Item, cell: Cell) -> Iterator[Grant]:
        """A grant for the cell's host, from whoever answers the hook first; a refusal fails the item's set-up."""
        __tracebackhide__ = True
        started_at = time.time()
        grant: Grant | None = None
        refusal = ""
        self._teller(item, cell).tell("waiting")
        try:
            grant = self._config.hook.pytest_boobench_acquire_host_access(
                config=self._config, host=cell.host, purpose=PURPOSE
            )
        except BoobenchError as error:
            refusal = str(error)
        if grant is None:  # failed outside of the except clause, or the report would show both exceptions
            self._keep(item, identify(cell, item.nodeid, started_at=started_at, worker=self._worker, error=refusal))
            pytest.fail(refusal, pytrace=False)
        try:
            yield grant
        finally:
            grant.release()

    @pytest.hookimpl(trylast=True)
    def pytest_boobench_acquire_host_access(self, host: str, purpose: str) -> Grant:
        """The plugin's own answer."""
        from pytest_boobench.hosts.access import Hosts
        from pytest_boobench.hosts.quiet import Manners

        if self._hosts is None:
            asked = self._settings
            manners = Manners(quiet_s=asked.quiet_s, wait_s=asked.wait_s, takeover=asked.takeover)
            self._hosts = Hosts(self._inventory, self._run_uid, manners)
        return self._run(self._hosts.grant(host, purpose))

    def measure(self, item: pytest.Item, cell: Cell, grant: Grant) -> CellRecord:
        """Measure, and keep the record for the report whatever came of it; an error fails the item's set-up."""
        __tracebackhide__ = True
        from pytest_boobench import walk

        teller = self._teller(item, cell)
        teller.tell("loading")
        record: CellRecord = self._run(
            walk.run_cell(
                cell, grant, node_id=item.nodeid, run_uid=self._run_uid, worker=self._worker, observe=teller.observe
            )
        )
        self._keep(item, record)
        if record.error is not None:
            pytest.fail(record.error, pytrace=False)
        return record

    def _teller(self, item: pytest.Item, cell: Cell) -> Teller:
        return Teller(item, cell, run=self._run_uid, worker=self._worker)

    def _keep(self, item: pytest.Item, record: CellRecord) -> None:
        item.stash[_RECORD] = record
        item.user_properties.extend(properties_of_record(record))

    def judge(self, item: pytest.Item, cell: Cell, record: CellRecord) -> None:
        """Judge, keep the verdicts for the report, and fail the item where it failed."""
        __tracebackhide__ = True
        from pytest_boobench import walk

        baseline = self._baselines().get(record.cell_key)
        rules = self._settings.rules
        verdicts = walk.judge_cell(cell, record, baseline, rules)
        item.stash[_VERDICTS] = verdicts
        item.user_properties.extend(properties_of_verdicts(verdicts))
        fail_disturbed = (cell.plan.disturbed or rules.disturbed) == "fail"
        if text := failure_text(
            record, verdicts, baseline, max_failed=cell.plan.max_failed, fail_disturbed=fail_disturbed
        ):
            pytest.fail(text, pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the finished facts on the report, as plain data: record with the set-up, verdicts with the call."""
        report = yield
        if call.when == "setup" and (record := item.stash.get(_RECORD, None)) is not None:
            report.boobench = {"record": to_plain(record)}  # type: ignore[attr-defined]
        elif call.when == "call" and (verdicts := item.stash.get(_VERDICTS, None)) is not None:
            report.boobench = {"verdicts": [asdict(verdict) for verdict in verdicts]}  # type: ignore[attr-defined]
        return report

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(work)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """End the embedded servers, close the connections and the loop."""
        if self._hosts is not None:
            self._run(self._hosts.close())
            self._hosts = None
        if self._runner is not None:
            self._runner.close()
            self._runner = None
