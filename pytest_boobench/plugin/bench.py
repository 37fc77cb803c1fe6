"""The measuring side, in each process that runs items: grants, measurements, verdicts. It never opens the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from pytest_boobench.environment import FOLDER
from pytest_boobench.errors import BoobenchError
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.plugin.judging import Doubt, Judging
from pytest_boobench.plugin.ordering import cell_of
from pytest_boobench.plugin.progress import Teller, hide_in_report, put_off
from pytest_boobench.plugin.references import MachineReferences, write_plain
from pytest_boobench.plugin.settings import Settings
from pytest_boobench.plugin.signals import WORK
from pytest_boobench.plugin.workers import BenchPlace
from pytest_boobench.record import CellRecord, Pairing, Verdict, identify
from pytest_boobench.reports.junit import properties_of_record, properties_of_verdicts
from pytest_boobench.reports.sentences import sentence
from pytest_boobench.suite.cell import Cell
from pytest_boobench.untrusted import clean_lines, hide_in

if TYPE_CHECKING:
    from pytest_boobench.hosts.access import Grant, Hosts
    from pytest_boobench.hosts.inventory import Host
    from pytest_boobench.measure.sides import Duet, DuetSide
    from pytest_boobench.servers.clients import Clients, Server, Waiting

_RECORD = pytest.StashKey[CellRecord | None]()
_VERDICTS = pytest.StashKey[tuple[Verdict, ...] | None]()
T = TypeVar("T")


class Bench:
    """Measures and judges the cells of one process: its event loop and hosts begin with the first cell."""

    def __init__(self, config: pytest.Config, settings: Settings, inventory: Inventory, place: BenchPlace) -> None:
        self._config = config
        self._settings = settings
        self._inventory = inventory
        self._place = place
        self.judging = Judging(config, settings, place.baselines)
        self._resumed: Doubt | None = None
        """Why the item that runs now runs again."""
        self._at_work: Teller | None = None
        self._wanted: tuple[str, Mapping[str, str]] | None = None
        """What the cell at work wants of a host that we start; the hook for access carries the host's name only."""
        self._runner: asyncio.Runner | None = None
        self._hosts: Hosts | None = None
        self._references = MachineReferences(inventory, self._measure_reference, place.deliver)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Forget what the item's last run left on it; where it runs again, wait long enough since its last block."""
        if item.stash.get(_RECORD, None) is not None:
            item.user_properties.clear()
        self._resumed = self.judging.resume(item)
        if self._resumed is None:
            item.stash[_RECORD] = item.stash[_VERDICTS] = None

    @contextmanager
    def access(self, item: pytest.Item, cell: Cell, host: str, model: str = "") -> Iterator[Grant]:
        """A grant for one of the cell's hosts, from the first answer to the hook; a refusal fails the item's set-up.

        ``model`` is the one that is measured there, by default the cell's.
        """
        __tracebackhide__ = True
        started_at = time.time()
        grant: Grant | None = None
        refusal = ""
        self._at_work = self._teller(item, cell)
        self._at_work.tell("waiting")
        if self._settings.duet is None:
            self._look_at_reference(host)
        self._wanted = (model or cell.model, cell.launch)
        try:
            hook = self._config.hook
            grant = hook.pytest_boobench_acquire_host_access(config=self._config, host=host, purpose="bench")
        except BoobenchError as error:
            refusal = str(error)
        if grant is None:  # failed outside of the except clause, or the report would show both exceptions
            if self._resumed is not None:
                record = replace(self._resumed.record, error=refusal)
            else:
                record = identify(cell, item.nodeid, started_at=started_at, worker=self._place.worker, error=refusal)
            self._keep(item, record)
            pytest.fail(clean_lines(refusal), pytrace=False)
        try:
            yield grant
        finally:
            grant.release()

    def _look_at_reference(self, host: str) -> None:
        """Measure the reference of the host's machine, if that is due; before the cell has its host."""
        resumed = self._resumed.record if self._resumed is not None else None
        if (reference := self._references.find(host, resumed)) is not None:
            self._references.look(reference)

    def _measure_reference(self, reference: Host) -> CellRecord:
        from pytest_boobench.measure.block import Measurer
        from pytest_boobench.measure.reference_cell import measure_reference

        place, hook = self._place, self._config.hook
        self._wanted = (reference.reference or "", {})
        grant: Grant = hook.pytest_boobench_acquire_host_access(
            config=self._config, host=reference.name, purpose="bench"
        )
        try:
            session = Measurer(run_uid=place.run_uid, worker=place.worker, client=place.client)
            return self._run(measure_reference(reference, grant, session))
        finally:
            grant.release()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """After the last cell, look at the references once more; not where the session was broken off."""
        outcome = yield
        self._at_work = None
        self._references.close()
        return outcome

    @pytest.hookimpl(trylast=True)
    def pytest_boobench_acquire_host_access(self, host: str, purpose: str) -> Grant:
        """Grant the host, once no other session on this machine uses it."""
        from pytest_boobench.hosts.access import Hosts, Wanted
        from pytest_boobench.hosts.quiet import Manners
        from pytest_boobench.servers.clients import Patience

        if self._hosts is None:
            asked = self._settings
            self._hosts = Hosts(
                self._inventory,
                self._place.run_uid,
                Manners(quiet_s=asked.quiet_s, wait_s=asked.wait_s, takeover=asked.takeover),
                self._make_server,
                asked.duet,
                asked.duet_together,
                patience=Patience(load_s=asked.load_timeout_s, refused_s=asked.wait_s, tell=self._tell_waiting),
                logs=self._config.rootpath / FOLDER / "logs" / self._place.run_uid,
            )
        return self._run(self._hosts.grant(host, purpose, Wanted(*self._wanted) if self._wanted else None))

    def _tell_waiting(self, waiting: Waiting) -> None:
        if self._at_work is not None:
            self._at_work.tell("loading" if waiting.why == "loading" else "waiting", note=str(waiting))

    def _make_server(self, host: Host, clients: Clients) -> Server | None:
        made: Server | None = self._config.hook.pytest_boobench_make_server(
            config=self._config, host=host, clients=clients
        )
        return made

    def measure(self, item: pytest.Item, cell: Cell, grant: Grant) -> CellRecord:
        """Measure a cell and keep its record for the report; an error fails the item's set-up."""
        __tracebackhide__ = True
        with nullcontext() if self._settings.duet is None else self._other_side(item, cell, grant) as other:
            self._teller(item, cell).tell("loading")
            record = self._measure_block(item, cell, grant, other)
            while (
                not self._place.puts_off and record.error is None and (doubt := self.judging.find_doubt(cell, record))
            ):
                self._resumed = doubt
                self.judging.wait(doubt)
                record = self._measure_block(item, cell, grant, other)
        self._keep(item, record)
        if record.error is not None:
            pytest.fail(clean_lines(record.error), pytrace=False)
        return record

    @contextmanager
    def _other_side(self, item: pytest.Item, cell: Cell, grant: Grant) -> Iterator[DuetSide]:
        """The reference of the cell's duet; skips a cell that is the reference itself."""
        from pytest_boobench.measure.sides import DuetSide

        asked = self._settings
        name, model = cast("str", asked.duet), asked.duet_model or cell.model
        other = replace(cell, host=name, model=model)
        same, started = self._inventory.is_same(cell.host, name), self._inventory.get(name).start is not None
        if not same or (started and model != cell.model):
            with self.access(item, cell, name, model) as reference:
                yield DuetSide(reference, other, reference=True)
        elif model != cell.model or asked.duet_same:
            yield DuetSide(grant, other, reference=True)
        else:
            shown = f"{cell.host}::{model}" if asked.duet_model else cell.host
            pytest.skip(f"{shown} is the reference of this duet, it cannot be compared with itself")

    def _measure_block(self, item: pytest.Item, cell: Cell, grant: Grant, other: DuetSide | None) -> CellRecord:
        """Measure the cell's first block, or one more where the ones before left doubt; pairs in a duet."""
        from pytest_boobench import walk
        from pytest_boobench.measure.block import EndedEarly, Measurer
        from pytest_boobench.measure.sides import Duet, DuetSide

        place = self._place
        teller = self._teller(item, cell)
        session = Measurer(
            run_uid=place.run_uid,
            worker=place.worker,
            client=place.client,
            observe=teller.observe,
            observe_samples=teller.observe_samples,
        )
        if (doubt := self._resumed) is not None:
            return self._references.attach(self._run(walk.extend_cell(cell, grant, session, doubt.record, doubt.why)))
        if other is not None:
            asked = self._settings
            duet = Duet(
                DuetSide(grant, cell, reference=False), other, session, names_model=asked.duet_model is not None
            )
            course = walk.Course(pairing=self._find_pairing(duet), until=asked.duet_until, end_s=self.judging.end_s)
            try:
                return self._run(walk.run_duet(duet, node_id=item.nodeid, rules=asked.rules, course=course))
            except EndedEarly as early:
                item.session.shouldstop = "interrupted"
                return early.record
        return self._references.attach(self._run(walk.run_cell(cell, grant, session, node_id=item.nodeid)))

    def _find_pairing(self, duet: Duet) -> Pairing:
        """What the pairs are on two hosts: starts where we start both and they may not run at once."""
        asked, names = self._settings, [side.cell.host for side in duet.sides]
        if duet.shared or not all(side.grant.fresh for side in duet.sides):
            return "requests"
        if names[0] == names[1]:  # one command for two models: only one of them can run
            return "starts"
        if asked.duet_together:
            return "requests"
        embedded = any(self._inventory.get(name).embedded for name in names)
        return asked.duet_pairs or ("requests" if embedded else "starts")

    def _teller(self, item: pytest.Item, cell: Cell) -> Teller:
        return Teller(item, cell, run=self._place.run_uid, worker=self._place.worker)

    def _keep(self, item: pytest.Item, record: CellRecord) -> None:
        item.stash[_RECORD] = record
        item.user_properties.extend(properties_of_record(record))

    def judge(self, item: pytest.Item, cell: Cell, record: CellRecord) -> None:
        """Judge a cell, keep the verdicts for the report, fail or skip the item; put it off where there is doubt."""
        __tracebackhide__ = True
        if self._place.puts_off and (doubt := self.judging.find_doubt(cell, record)):
            self.judging.doubts[item.nodeid] = doubt
            self._teller(item, cell).tell("in doubt")
            return
        verdicts, failure = self.judging.judge(cell, record)
        item.stash[_VERDICTS] = verdicts
        item.user_properties.extend(properties_of_verdicts(verdicts))
        if failure:
            self.judging.expect_rerun(item, record, verdicts)
            pytest.fail(clean_lines(failure), pytrace=False)
        # What could not be decided must not be green.
        if undecided := "; ".join(sentence(verdict) for verdict in verdicts if verdict.outcome == "inconclusive"):
            pytest.skip(clean_lines(undecided))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the finished facts on the report, as plain data: record with the set-up, verdicts with the call."""
        report = yield
        if call.when == "setup" and (record := item.stash.get(_RECORD, None)) is not None:
            report.boobench = {"record": write_plain(record)}  # type: ignore[attr-defined]
        elif call.when == "call" and (verdicts := item.stash.get(_VERDICTS, None)) is not None:
            report.boobench = {"verdicts": hide_in([asdict(verdict) for verdict in verdicts])}  # type: ignore[attr-defined]
            if report.skipped and (cell := cell_of(item)) is not None and isinstance(report.longrepr, tuple):
                # an undecided cell is skipped where it stands in its suite, and not in this file
                report.longrepr = (str(item.path), cell.line, report.longrepr[2])
        if cell_of(item) is not None:
            hide_in_report(report)
        if (doubt := self.judging.doubts.get(item.nodeid)) is not None and call.when != "setup" and not report.failed:
            put_off(report, doubt.why if call.when == "call" else "")
        return report

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._runner is None:
            self._runner = asyncio.Runner()
        under_way: list[asyncio.Task[Any]] = []

        async def follow() -> T:
            task = cast("asyncio.Task[Any]", asyncio.current_task())
            task.set_name(WORK)
            under_way.append(task)
            return await work

        try:
            return self._runner.run(follow())
        except (KeyboardInterrupt, SystemExit):  # these end the session
            raise
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        except BaseException as error:  # one that a signal's handler raised, as a plugin's time limit
            for task in under_way:
                if task.cancel():
                    self._runner.run(asyncio.wait([task]))  # or its requests go on beside the next cell's
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


def _find_limit(error: BaseException) -> BaseException | None:
    """pytest's own failure in a group of errors, as where a time limit ended one of several lanes."""
    if not isinstance(error, BaseExceptionGroup):
        return None
    found: BaseException | None = error.subgroup(pytest.fail.Exception)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
