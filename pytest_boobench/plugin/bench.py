"""The measuring side, in each process that runs items: grants, measurements, verdicts. It never opens the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from pytest_boobench.errors import BoobenchError
from pytest_boobench.facts import ClientFacts
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.plain import rebuild
from pytest_boobench.plugin.judging import Doubt, Judging
from pytest_boobench.plugin.options import Settings
from pytest_boobench.plugin.ordering import cell_of
from pytest_boobench.plugin.progress import Teller, put_off
from pytest_boobench.record import Baseline, CellRecord, Verdict, identify
from pytest_boobench.reports.junit import properties_of_record, properties_of_verdicts
from pytest_boobench.suite.cell import Cell
from pytest_boobench.untrusted import clean_lines, hide_in, hide_secrets

if TYPE_CHECKING:
    from pytest_boobench.hosts.access import Grant, Hosts
    from pytest_boobench.hosts.inventory import Host
    from pytest_boobench.servers.clients import Clients, Server, Waiting

_RECORD = pytest.StashKey[CellRecord | None]()
_VERDICTS = pytest.StashKey[tuple[Verdict, ...] | None]()
PURPOSE = "bench"
_NAMES = ("node_id", "cell_key", "suite", "host", "identity")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BenchPlace:
    """Where a bench stands: alone in the process that also reports, or in one of several workers."""

    run_uid: str
    worker: str
    client: ClientFacts
    baselines: Callable[[], Mapping[str, Baseline]]
    puts_off: bool = True
    """Whether a doubtful cell can run again later; else its further blocks follow at once, after the wait."""

    @classmethod
    def of_worker(cls, workerinput: Mapping[str, Any]) -> BenchPlace:
        """In a worker: what it needs to know came with it from the controller."""
        plain: Mapping[str, Any] = workerinput["boobench_baselines"]
        return cls(
            workerinput["boobench_session"],
            workerinput["workerid"],
            ClientFacts(**workerinput["boobench_client"]),
            lambda: {key: rebuild(Baseline, baseline) for key, baseline in plain.items()},
            workerinput["boobench_puts_off"],
        )


class Bench:
    """One process's measuring: an event loop and the hosts, both made at the first cell and ended with the session."""

    def __init__(self, config: pytest.Config, settings: Settings, inventory: Inventory, place: BenchPlace) -> None:
        self._config = config
        self._settings = settings
        self._inventory = inventory
        self._run_uid = place.run_uid
        self._worker = place.worker
        self._client = place.client
        self._puts_off = place.puts_off
        self._judging = Judging(config, settings.rules, place.baselines)
        self._began_s = time.monotonic()
        self._doubts: dict[str, Doubt] = {}
        """Node id -> why the item is to run again."""
        self._regressed: dict[str, Doubt] = {}
        """Node id -> what a failed item found, should a plugin run it again."""
        self._resumed: Doubt | None = None
        """Of the item that runs now."""
        self._at_work: Teller | None = None
        """Tells of the item that runs now."""
        self._runner: asyncio.Runner | None = None
        self._hosts: Hosts | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Take up an item that was put off, or that a plugin runs again: forget what its last run left on it, and let
        enough time pass since."""
        again = self._regressed.pop(item.nodeid, None)
        self._resumed = self._doubts.pop(item.nodeid, again)
        if item.stash.get(_RECORD, None) is not None:
            item.user_properties.clear()
        if self._resumed is not None:
            self._wait(self._resumed)
        else:
            item.stash[_RECORD] = item.stash[_VERDICTS] = None

    @contextmanager
    def access(self, item: pytest.Item, cell: Cell, host: str) -> Iterator[Grant]:
        """A grant for a host of the cell, from whoever answers the hook first; a refusal fails the item's set-up."""
        __tracebackhide__ = True
        started_at = time.time()
        grant: Grant | None = None
        refusal = ""
        self._at_work = self._teller(item, cell)
        self._teller(item, cell).tell("waiting")
        try:
            grant = self._config.hook.pytest_boobench_acquire_host_access(
                config=self._config, host=host, purpose=PURPOSE
            )
        except BoobenchError as error:
            refusal = str(error)
        if grant is None:  # failed outside of the except clause, or the report would show both exceptions
            if self._resumed is not None:
                record = replace(self._resumed.record, error=refusal)
            else:
                record = identify(cell, item.nodeid, started_at=started_at, worker=self._worker, error=refusal)
            self._keep(item, record)
            pytest.fail(clean_lines(refusal), pytrace=False)
        try:
            yield grant
        finally:
            grant.release()

    @pytest.hookimpl(trylast=True)
    def pytest_boobench_acquire_host_access(self, host: str, purpose: str) -> Grant:
        """The plugin's own answer."""
        from pytest_boobench.hosts.access import Hosts, Manners
        from pytest_boobench.servers.clients import Patience

        if self._hosts is None:
            asked = self._settings
            manners = Manners(quiet_s=asked.quiet_s, wait_s=asked.wait_s, takeover=asked.takeover)
            patience = Patience(load_s=asked.load_timeout_s, refused_s=asked.wait_s, tell=self._tell_waiting)
            self._hosts = Hosts(
                self._inventory, self._run_uid, manners, self._make_server, asked.duet, patience=patience
            )
        return self._run(self._hosts.grant(host, purpose))

    def _tell_waiting(self, waiting: Waiting) -> None:
        if self._at_work is not None:
            self._at_work.tell("loading" if waiting.why == "loading" else "waiting", str(waiting))

    def _make_server(self, host: Host, clients: Clients) -> Server | None:
        made: Server | None = self._config.hook.pytest_boobench_make_server(
            config=self._config, host=host, clients=clients
        )
        return made

    def measure(self, item: pytest.Item, cell: Cell, grant: Grant) -> CellRecord:
        """Measure, and keep the record for the report whatever came of it; an error fails the item's set-up."""
        __tracebackhide__ = True
        if self._settings.duet is None:
            record = self._measure(item, cell, grant, None)
        else:
            self._require_another(cell, self._settings.duet)
            with self.access(item, cell, self._settings.duet) as reference:
                record = self._measure(item, cell, grant, reference)
        self._keep(item, record)
        if record.error is not None:
            pytest.fail(clean_lines(record.error), pytrace=False)
        return record

    def _measure(self, item: pytest.Item, cell: Cell, grant: Grant, reference: Grant | None) -> CellRecord:
        self._teller(item, cell).tell("loading")
        record = self._run(self._block_of(item, cell, grant, reference))
        while not self._puts_off and record.error is None and (doubt := self._doubt(cell, record)):
            self._resumed = doubt
            self._wait(doubt)
            record = self._run(self._block_of(item, cell, grant, reference))
        return record

    def _require_another(self, cell: Cell, reference: str) -> None:
        host, other = self._inventory.get(cell.host), self._inventory.get(reference)
        if host == other or (host.embedded is None and host.base_url == other.base_url):
            pytest.skip(f"{cell.host} is the reference of this duet, it cannot be compared with itself")

    def _block_of(
        self, item: pytest.Item, cell: Cell, grant: Grant, reference: Grant | None
    ) -> Coroutine[Any, Any, CellRecord]:
        """The cell's first block, or one more where the ones before left doubt; pairs in a duet."""
        from pytest_boobench import walk
        from pytest_boobench.measure.block import Measurer

        session = Measurer(
            run_uid=self._run_uid, worker=self._worker, client=self._client, observe=self._teller(item, cell).observe
        )
        if (doubt := self._resumed) is not None:
            return walk.extend_cell(cell, grant, session, doubt.record, doubt.why)
        if reference is not None:
            rules = self._settings.rules
            return walk.run_duet(cell, grant, reference, session, node_id=item.nodeid, rules=rules)
        return walk.run_cell(cell, grant, session, node_id=item.nodeid)

    def _teller(self, item: pytest.Item, cell: Cell) -> Teller:
        return Teller(item, cell, run=self._run_uid, worker=self._worker)

    def _keep(self, item: pytest.Item, record: CellRecord) -> None:
        item.stash[_RECORD] = record
        item.user_properties.extend(properties_of_record(record))

    def judge(self, item: pytest.Item, cell: Cell, record: CellRecord) -> None:
        """Judge, keep the verdicts for the report, and fail or skip the item; or put it off where there is doubt."""
        __tracebackhide__ = True
        if self._puts_off and (doubt := self._doubt(cell, record)):
            self._doubts[item.nodeid] = doubt
            self._teller(item, cell).tell("in doubt")
            return
        verdicts = self._judging.judge(cell, record)
        item.stash[_VERDICTS] = verdicts
        item.user_properties.extend(properties_of_verdicts(verdicts))
        if text := self._judging.failure_text(cell, record, verdicts):
            self._expect_rerun(item, record, verdicts)
            pytest.fail(clean_lines(text), pytrace=False)
        if text := self._judging.skip_text(verdicts):
            pytest.skip(clean_lines(text))

    def _expect_rerun(self, item: pytest.Item, record: CellRecord, verdicts: Sequence[Verdict]) -> None:
        """Should a plugin run the item again, a regression has one more block: measuring until it passes would prove
        nothing. Requests that failed are measured afresh."""
        worse = ", ".join(verdict.metric for verdict in verdicts if verdict.outcome == "regression")
        if worse and not record.failed and record.reference_host is None:
            self._regressed[item.nodeid] = Doubt(record, f"{worse} regressed, run again", time.monotonic())

    def is_in_doubt(self, item: pytest.Item) -> bool:
        """Whether the item has run and is to run again before it has an outcome."""
        return item.nodeid in self._doubts

    def _doubt(self, cell: Cell, record: CellRecord) -> Doubt | None:
        """The doubt that another block may settle; None where there is none, or no time for it by what
        ``--boobench-max-time`` allows."""
        most, now_s = self._settings.max_time_s, time.monotonic()
        if most is not None and now_s - self._began_s + self._settings.block_gap_s >= most:
            return None
        doubts = self._judging.find_doubts(cell, record)
        return Doubt(record, f"{', '.join(doubts)} in doubt", now_s) if doubts else None

    def _wait(self, doubt: Doubt) -> None:
        """Blocks close in time resemble each other: let enough of it pass since the last one."""
        time.sleep(max(0.0, doubt.ended_s + self._settings.block_gap_s - time.monotonic()))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the finished facts on the report, as plain data: record with the set-up, verdicts with the call."""
        report = yield
        if call.when == "setup" and (record := item.stash.get(_RECORD, None)) is not None:
            report.boobench = {"record": _hide_in(record)}  # type: ignore[attr-defined]
        elif call.when == "call" and (verdicts := item.stash.get(_VERDICTS, None)) is not None:
            report.boobench = {"verdicts": hide_in([asdict(verdict) for verdict in verdicts])}  # type: ignore[attr-defined]
            if report.skipped and (cell := cell_of(item)) is not None and isinstance(report.longrepr, tuple):
                # an undecided cell is skipped where it stands in its suite, and not in this file
                report.longrepr = (str(item.path), cell.line, report.longrepr[2])
        if cell_of(item) is not None:
            _hide_in_report(report)
        if (doubt := self._doubts.get(item.nodeid)) is not None and call.when != "setup" and not report.failed:
            put_off(report, doubt.why if call.when == "call" else "")
        return report

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._runner is None:
            self._runner = asyncio.Runner()
        under_way: list[asyncio.Task[Any]] = []

        async def follow() -> T:
            under_way.append(cast("asyncio.Task[Any]", asyncio.current_task()))
            return await work

        try:
            return self._runner.run(follow())
        except (KeyboardInterrupt, SystemExit):  # these end the session
            raise
        except BaseException as error:  # one that a signal's handler raised, as a plugin's time limit
            for task in under_way:
                if not task.done():
                    task.cancel()
                    self._runner.run(_end(task))
            if (limit := _find_limit(error)) is None:
                raise
            raise limit from None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """End the embedded servers, close the connections and the loop."""
        if self._hosts is not None:
            self._run(self._hosts.close())
            self._hosts = None
        if self._runner is not None:
            self._runner.close()
            self._runner = None


def _hide_in(record: CellRecord) -> dict[str, Any]:
    """A record as plain data without secrets, but for the names that others look it up by: they are the user's own."""
    plain = asdict(record)
    return {**hide_in(plain), **{name: plain[name] for name in _NAMES}}


def _hide_in_report(report: pytest.TestReport) -> None:
    """Whatever a cell's report says and logged: terminal, JUnit and pages have it from here."""
    if isinstance(report.longrepr, tuple):
        path, line, why = report.longrepr
        report.longrepr = path, line, hide_secrets(why)
    elif report.longrepr is not None and (told := str(report.longrepr)) != (hidden := hide_secrets(told)):
        report.longrepr = hidden
    report.sections = [(title, hide_secrets(text)) for title, text in report.sections]


async def _end(task: asyncio.Task[Any]) -> None:
    """Wait until a cancelled task is over: no request of its goes on beside the next cell's."""
    await asyncio.wait([task])


def _find_limit(error: BaseException) -> BaseException | None:
    """pytest's own failure among several errors, as where a time limit met one lane of many."""
    if not isinstance(error, BaseExceptionGroup):
        return None
    found: BaseException | None = error.subgroup(pytest.fail.Exception)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
