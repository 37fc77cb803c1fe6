"""Hosts in parallel under pytest-xdist: order, batches, the scheduler with scripted workers and with real ones."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_boobench.hosts.embedded import EmbeddedSettings, start
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.plugin import pytest_xdist_auto_num_workers
from pytest_boobench.plugin.ordering import CellPlace, count_workers, find_choices, order, plan, read_node_id
from pytest_boobench.plugin.scheduler import HostScheduler
from pytest_boobench.plugin.workers import Workers
from tests.conftest import LIGHT, BenchFolder, name_plugins
from tests.fault_server import Peer, Scenario
from tests.forking import ForkedPython
from tests.plugin.test_session import query
from tests.stand_in import openai_server

PATTERNS = ("*.boobench.yaml",)


# --- the order on a host


def chat(host: str, model: str) -> CellPlace:
    return CellPlace(host, model, embeds=False)


def deep(depth_tokens: int, model: str = "m") -> CellPlace:
    return CellPlace("a", model, embeds=False, depth_tokens=depth_tokens)


def embedding(host: str, model: str) -> CellPlace:
    return CellPlace(host, model, embeds=True)


@pytest.mark.parametrize(
    ("places", "loaded", "expected"),
    [
        pytest.param([], {}, [], id="nothing"),
        pytest.param([chat("a", "m"), chat("a", "n"), chat("a", "m")], {}, [0, 2, 1], id="a model at a time"),
        pytest.param([chat("a", "m"), embedding("a", "e")], {}, [1, 0], id="embeddings first"),
        pytest.param([chat("a", "m"), chat("b", "m"), chat("a", "m")], {}, [0, 2, 1], id="a host at a time"),
        pytest.param([chat("a", "m"), chat("a", "n")], {"a": ["n"]}, [1, 0], id="the loaded one first"),
        pytest.param([chat("a", "m"), chat("a", "n")], {"b": ["n"]}, [0, 1], id="loaded elsewhere"),
        pytest.param([chat("a", "m"), embedding("a", "e")], {"a": ["m"]}, [1, 0], id="embeddings before the loaded"),
        pytest.param(
            [deep(9), deep(0), deep(9, "n"), deep(2), deep(0)],
            {},
            [1, 4, 3, 0, 2],
            id="the shallow ones of a model first",
        ),
        pytest.param(
            [embedding("a", "e"), embedding("a", "f"), chat("a", "m")],
            {"a": ["f", "m"]},
            [1, 0, 2],
            id="among them too",
        ),
    ],
)
def test_order(places: Sequence[CellPlace], loaded: Mapping[str, Collection[str]], expected: list[int]) -> None:
    assert order(places, loaded) == expected


def test_only_hosts_with_a_choice_are_asked() -> None:
    places = [chat("a", "m"), chat("a", "n"), chat("b", "m"), chat("b", "m"), embedding("c", "m")]
    assert find_choices(places) == {"a"}


@pytest.mark.parametrize(
    ("node_id", "place"),
    [
        ("s/a.boobench.yaml::rack-1::org/qwen:8b[pp512-tg32-c4]", chat("rack-1", "org/qwen:8b")),
        ("a.boobench.yaml::rack-1::bge[pp512-c4]", embedding("rack-1", "bge")),
        ("a.boobench.yaml::rack-1::qwen[pp5-tg3-c1-temperature0.7]", chat("rack-1", "qwen")),
        ("a.boobench.yaml::a::m[pp512-tg32-c4-d8192]", deep(8192)),
        ("a.boobench.yaml::a::m[pp512-tg32-c4-d8192-temperature0.7]", deep(8192)),
        ("tests/test_a.py::TestA::test_b[pp512-tg32-c4]", None),
        ("tests/test_a.py::test_b", None),
        ("a.boobench.yaml", None),
    ],
)
def test_read_node_id(node_id: str, place: CellPlace | None) -> None:
    assert read_node_id(node_id, PATTERNS) == place


def test_node_ids_of_real_suites_say_what_they_are(bench: BenchFolder) -> None:
    """The id's format is the suite's; what it says of embeddings is read here only."""
    bench.write_suite("words", grid={"prompt_tokens": [16], "output_tokens": [4]}, sampling={"seed": [1, 2]})
    bench.write_suite("vectors", kind="embedding", models=["tiny-embed"], grid={"prompt_tokens": [16]})
    result = bench.run("--collect-only", "-q")
    found = [read_node_id(line, PATTERNS) for line in result.outlines if "::" in line]
    assert found == [embedding("llama", "tiny-embed"), *[chat("llama", "tiny-chat")] * 2]


def test_without_xdist_cells_are_in_order_and_other_items_keep_their_places(bench: BenchFolder) -> None:
    bench.write_hosts(other={"server": "llama-server", "url": "http://127.0.0.1:1"})
    grid = {"prompt_tokens": [16], "output_tokens": [4]}
    bench.write_suite("a", file="a.boobench.yaml", hosts=["llama", "other"], models=["m", "n"], grid=grid)
    bench.pytester.makepyfile(test_b="def test_one(): pass\ndef test_two(): pass")
    bench.write_suite("z", file="z.boobench.yaml", hosts=["other"], models=["n", "m"], grid=grid)
    result = bench.run("--collect-only", "-q")
    assert [line.removesuffix("[pp16-tg4-c1]") for line in result.outlines if "::" in line] == [
        "a.boobench.yaml::llama::m",
        "a.boobench.yaml::llama::n",
        "a.boobench.yaml::other::m",
        "z.boobench.yaml::other::m",
        "test_b.py::test_one",
        "test_b.py::test_two",
        "a.boobench.yaml::other::n",
        "z.boobench.yaml::other::n",
    ]


READY = """
    import pytest

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(session):
        collection = session.config.pluginmanager.get_plugin("boobench-collection")

        def ready(hosts):
            print("asked:", *sorted(hosts))
            return {"llama": ["tiny-embed"]}

        collection._ready = ready

    @pytest.fixture(autouse=True)
    def _say(request):
        print("ran:", request.node.nodeid)
"""


def test_hosts_are_asked_once_and_only_for_cells_that_run(bench: BenchFolder) -> None:
    bench.write_hosts(other={"server": "llama-server", "url": "http://127.0.0.1:1"})
    grid = {"prompt_tokens": [16], "output_tokens": [4]}
    bench.write_suite(hosts=["llama", "other"], models=["tiny-chat", "tiny-embed"], grid=grid)
    bench.pytester.makeconftest(READY)
    result = bench.run("-s", "-k", "llama")
    said = [line for line in result.outlines if "asked:" in line or "ran:" in line]
    assert [line.partition("llama")[2] for line in said] == [
        "",
        "::tiny-embed[pp16-tg4-c1]",
        "::tiny-chat[pp16-tg4-c1]",
    ]
    assert "asked:" not in str(bench.run("-s", "--collect-only").outlines)


# --- what is a batch


HOSTS = {
    "a": Host(name="a", base_url="http://10.0.0.1:8080"),
    "alias": Host(name="alias", base_url="http://10.0.0.1:8080"),
    "port": Host(name="port", base_url="http://10.0.0.1:8081"),
    "local": Host(name="local", base_url="http://localhost:8080"),
    "left": Host(name="left", base_url="http://10.0.0.9:1", machine="left"),
    "right": Host(name="right", base_url="http://10.0.0.9:1", machine="right"),
    "b": Host(name="b", base_url="http://10.0.0.2:8080"),
    "embedded": Host(name="embedded", embedded=EmbeddedSettings()),
    "heavy": Host(name="heavy", embedded=EmbeddedSettings(layers=9)),
}


def machine_of(host: str) -> str | None:
    return HOSTS[host].exclusive if host in HOSTS else None


def cells(host: str, *numbers: int, file: str = "s", model: str = "m") -> list[str]:
    return [f"{file}.boobench.yaml::{host}::{model}[pp{number}-tg4-c1]" for number in numbers]


PYTHON = ["t/test_a.py::TestA::test_1", "t/test_a.py::TestA::test_2", "t/test_a.py::test_3", "t/test_b.py::test_1@g"]


@pytest.mark.parametrize(
    ("node_ids", "dist", "batches"),
    [
        pytest.param(cells("a", 1) + cells("b", 1, 2), "load", [[1, 2], [0]], id="longest first"),
        pytest.param(cells("a", 1) + cells("alias", 2), "load", [[0, 1]], id="two names of one server"),
        pytest.param(cells("a", 1) + cells("port", 2), "load", [[0, 1]], id="two ports of one address"),
        pytest.param(cells("local", 1) + cells("embedded", 2), "load", [[0, 1]], id="loopback is this machine"),
        pytest.param(cells("left", 1) + cells("right", 2), "load", [[0], [1]], id="machines behind one address"),
        pytest.param(cells("embedded", 1) + cells("heavy", 2), "load", [[0, 1]], id="the machine is one host"),
        pytest.param(cells("a", 1) + cells("a", 2, file="r"), "loadfile", [[0, 1]], id="over all files"),
        pytest.param(cells("gone", 1, 2), "load", [[0], [1]], id="no host of ours"),
        pytest.param(PYTHON + cells("a", 1), "load", [[4], [0], [1], [2], [3]], id="others stand alone"),
        pytest.param(PYTHON, "worksteal", [[0], [1], [2], [3]], id="worksteal"),
        pytest.param(PYTHON, "loadfile", [[0, 1, 2], [3]], id="loadfile"),
        pytest.param(PYTHON, "loadscope", [[0, 1], [2], [3]], id="loadscope"),
        pytest.param(
            [*PYTHON, "u.py::test[x@y]", "u.py::test_9@g"], "loadgroup", [[0], [1], [2], [3, 5], [4]], id="group"
        ),
    ],
)
def test_batches(node_ids: Sequence[str], dist: str, batches: list[list[int]]) -> None:
    assert plan(node_ids, dist, machine_of=machine_of, patterns=PATTERNS, begin=lambda _: {}) == batches


def test_batches_ask_once_what_is_loaded() -> None:
    asked: list[set[str]] = []

    def begin(places: Collection[CellPlace]) -> Mapping[str, Collection[str]]:
        asked.append({place.host for place in places})
        return {"b": ["n"]}

    node_ids = cells("b", 1) + cells("b", 1, model="n") + cells("a", 1)
    assert plan([*PYTHON, *node_ids], "load", machine_of=machine_of, patterns=PATTERNS, begin=begin)[:2] == [
        [5, 4],
        [6],
    ]
    assert asked == [{"a", "b"}]
    plan(PYTHON, "load", machine_of=machine_of, patterns=PATTERNS, begin=begin)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("args", "workers"),
    [
        ([], 2),
        (["suites"], 2),
        (["suites/one.boobench.yaml"], 2),
        (["suites/one.boobench.yaml::alias"], 1),
        (["suites/one.boobench.yaml", "--boobench-host", "other"], 1),
        (["suites", "--boobench-host", "embedded"], None),
        (["empty"], None),
        (["missing"], None),
        ([".", "--boobench-hosts", "bad.yaml"], None),
    ],
)
def test_auto_is_as_many_workers_as_the_suites_have_machines(
    bench: BenchFolder, args: list[str], workers: int | None
) -> None:
    url = bench.hosts["llama"]["url"]
    bench.write_hosts(alias={"url": url}, other={"url": "http://10.0.0.9"}, unused={"url": "http://10.0.0.8"})
    bench.write_suite("one", file="suites/one.boobench.yaml", hosts=["llama", "alias", "other"])
    bench.write_suite("two", file="two.boobench.yaml", hosts=["embedded"])
    bench.write_suite("hidden", file=".venv/hidden.boobench.yaml", hosts=["unused"])
    bench.write_suite("broken", file="broken.boobench.yaml", samples="many")
    (bench.path / "empty").mkdir()
    (bench.path / "bad.yaml").write_text("hosts: 7\n")
    assert count_workers(bench.pytester.parseconfig("--boobench", *args)) == workers


@pytest.mark.parametrize("names", [("boobench", "xdist"), ("xdist", "boobench")], ids=" ".join)
def test_auto_is_ours_whichever_plugin_is_loaded_first(
    bench: BenchFolder, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", name_plugins(*names))
    monkeypatch.setattr("pytest_boobench.plugin.ordering.count_workers", lambda config: 77)
    config = bench.pytester.parseconfig("--boobench", "-n", "auto")
    assert config.hook.pytest_xdist_auto_num_workers(config=config) == 77
    bench.pytester.makeconftest("def pytest_xdist_auto_num_workers(): return 5")
    config = bench.pytester.parseconfig("--boobench", "-n", "auto")
    assert config.hook.pytest_xdist_auto_num_workers(config=config) == 5, "a conftest has the last word"


def test_auto_is_left_to_xdist_where_it_is_not_ours(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write_suite()
    config = bench.pytester.parseconfig("--boobench", "-n", "auto")
    assert pytest_xdist_auto_num_workers(config) == 1
    assert pytest_xdist_auto_num_workers(bench.pytester.parseconfig("-n", "auto")) is None
    assert pytest_xdist_auto_num_workers(bench.pytester.parseconfig("--boobench", "-n", "logical")) is None
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "7")
    assert pytest_xdist_auto_num_workers(config) is None


# --- the scheduler, with workers that do as they are told


@dataclass(eq=False)
class Worker:
    """Does what xdist's do: begins an item only when it knows what comes after it."""

    name: str
    queue: deque[int] = field(default_factory=deque)
    shutting_down: bool = False

    @property
    def gateway(self) -> SimpleNamespace:
        return SimpleNamespace(id=self.name)

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        assert indices
        assert not self.shutting_down, "what comes after a shutdown is never run"
        self.queue.extend(indices)

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def running(self) -> int | None:
        """The item that it is at now."""
        return self.queue[0] if len(self.queue) >= 2 or (self.queue and self.shutting_down) else None

    @property
    def over(self) -> bool:
        return self.shutting_down and not self.queue


class Session:
    """xdist's side of the protocol, after `DSession`: what it calls, in which order."""

    def __init__(self, batches: Sequence[Sequence[int]], workers: int, restarts: int | None = None) -> None:
        self.batches = batches
        self.items = [f"item-{index}" for index in range(sum(map(len, batches)))]
        self.restarts = restarts
        self.crashes = 0
        self.ran: list[int] = []
        self.crashed: list[str] = []
        self.reports: list[pytest.CollectReport] = []
        self.lost = False
        self.hook = self
        self.scheduler = HostScheduler(
            self,  # type: ignore[arg-type]  # of the configuration only the hook is used
            workers=workers,
            plan=lambda node_ids: batches,
            repeats=lambda node_id: False,
            replaces_crashed=lambda: self.replaces,
        )
        self.workers = [Worker(f"gw{number}") for number in range(workers)]
        self.coming: list[Worker] = []
        for worker in self.workers:
            self.scheduler.add_node(worker)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.reports.append(report)

    @property
    def replaces(self) -> bool:
        return self.restarts is None or self.crashes <= self.restarts

    def begin(self) -> None:
        for worker in self.workers:
            self.arrive(worker)
        self.end_if_finished()

    def arrive(self, worker: Worker, items: Sequence[str] | None = None) -> None:
        self.scheduler.add_node_collection(worker, self.items if items is None else items)
        if self.scheduler.collection_is_completed:
            self.scheduler.schedule()
        self.check()

    @property
    def at_work(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.running is not None]

    def complete(self, worker: Worker) -> None:
        self.ran.append(worker.queue.popleft())
        self.scheduler.mark_test_complete(worker, self.ran[-1], 0.1)
        self.check()
        self.end_if_finished()

    def crash(self, worker: Worker) -> None:
        self.crashes += 1
        self.workers.remove(worker)
        others = [other for other in self.workers if not other.shutting_down]
        crashed = self.scheduler.remove_node(worker)
        if crashed:
            self.crashed.append(crashed)
        if self.replaces:
            self.coming.append(Worker(f"{worker.name}+"))
        else:
            self.lost = self.lost or not others
            self.end()
        self.check()
        self.end_if_finished()

    def replace(self) -> None:
        worker = self.coming.pop(0)
        self.workers.append(worker)
        if self.scheduler.tests_finished:
            worker.shutdown()
        else:
            self.scheduler.add_node(worker)
            self.arrive(worker)

    def leave(self) -> None:
        for worker in [worker for worker in self.workers if worker.over]:
            self.workers.remove(worker)
            if worker in self.scheduler.nodes:
                assert self.scheduler.remove_node(worker) is None

    def end_if_finished(self) -> None:
        if self.scheduler.tests_finished:
            self.end()

    def end(self) -> None:
        for worker in self.scheduler.nodes:
            worker.shutdown()

    def check(self) -> None:
        batch_of = {item: number for number, batch in enumerate(self.batches) for item in batch}
        running = Counter(batch_of[item] for worker in self.at_work if (item := worker.running) is not None)
        assert all(count == 1 for count in running.values()), "two items of one batch at once"
        for worker in self.workers:
            assert worker.shutting_down or len(worker.queue) != 1 or self.scheduler.has_pending

    def run_out(self) -> None:
        """To the end, without further crashes."""
        while self.at_work or self.coming:
            if self.coming:
                self.replace()
            for worker in self.at_work:
                self.complete(worker)
            self.leave()
        self.leave()
        assert self.scheduler.tests_finished or self.lost


def number(sizes: Sequence[int]) -> list[list[int]]:
    """Batches of so many items."""
    items = iter(range(sum(sizes)))
    return [[next(items) for _ in range(size)] for size in sizes]


@pytest.mark.parametrize(
    ("sizes", "workers", "busy"),
    [([10, 10, 10, 10], 4, 4), ([3, 1], 1, 1), ([1], 3, 1), ([5, 5], 4, 2), ([4, 1, 1, 1], 2, 2), ([], 2, 0)],
)
def test_every_item_runs_once_and_batches_side_by_side(sizes: list[int], workers: int, busy: int) -> None:
    session = Session(number(sizes), workers)
    session.begin()
    assert len(session.at_work) == busy
    assert sum(worker.shutting_down and not worker.queue for worker in session.workers) == workers - busy
    session.run_out()
    assert sorted(session.ran) == list(range(sum(sizes)))
    assert not session.workers


def test_a_worker_has_two_items_and_no_more() -> None:
    session = Session(number([10, 10]), 2)
    session.begin()
    assert [list(worker.queue) for worker in session.workers] == [[0, 1], [10, 11]]


def test_other_items_are_spread() -> None:
    session = Session(number([4, *[1] * 8]), 3)
    session.begin()
    assert [list(worker.queue) for worker in session.workers] == [[0, 1], [4, 6], [5, 7]]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_crashes_cost_one_item_each(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 5), max_size=6), label="sizes")
    restarts = data.draw(st.none() | st.integers(0, 3), label="restarts")
    session = Session(number(sizes), data.draw(st.integers(1, 4), label="workers"), restarts)
    session.begin()
    for action in data.draw(st.lists(st.sampled_from(["complete", "crash", "replace", "leave"]), max_size=30)):
        if action == "replace" and session.coming:
            session.replace()
        elif action == "leave":
            session.leave()
        elif action in ("complete", "crash") and session.at_work:
            getattr(session, action)(data.draw(st.sampled_from(session.at_work), label=action))
    session.run_out()
    gone = [session.items.index(item) for item in session.crashed]
    accounted = sorted([*session.ran, *gone])
    assert len(set(accounted)) == len(accounted), "run twice, or run and reported"
    if not session.lost:
        assert accounted == list(range(len(session.items)))


def test_the_rest_goes_to_the_replacement() -> None:
    session = Session(number([5]), 1)
    session.begin()
    session.complete(session.workers[0])
    session.crash(session.workers[0])
    assert session.crashed == ["item-1"]
    session.run_out()
    assert session.ran == [0, 2, 3, 4]


def test_the_rest_goes_to_others_where_no_replacement_comes() -> None:
    session = Session(number([5, 5]), 2, restarts=0)
    session.begin()
    session.crash(session.workers[0])
    assert [list(worker.queue) for worker in session.workers] == [[5, 6, 7, 8, 9, 1, 2, 3, 4]]
    session.run_out()
    assert not session.lost


def test_an_item_that_is_to_run_again_waits_for_its_batch() -> None:
    """As plugins do that give an item which crashed another try: its batch has gone to another worker meanwhile."""
    session = Session(number([3, 4]), 2)
    session.begin()
    first, second = session.workers
    session.crash(first)
    for _ in range(3):
        session.complete(second)
    assert list(second.queue) == [6, 1], "the end of its own batch, and the rest of the other"
    session.scheduler.mark_test_pending("item-0")
    session.run_out()
    assert sorted(session.ran) == list(range(7))


def test_a_free_batch_waits_while_another_item_of_it_runs_elsewhere() -> None:
    session = Session(number([2, 2, 1]), 2)
    session.begin()
    first, second = session.workers
    session.crash(first)
    session.complete(second)
    session.complete(second)
    assert list(second.queue) == [1, 4]
    session.scheduler.mark_test_pending("item-0")
    session.replace()
    replacement = session.workers[-1]
    assert not replacement.queue
    assert not replacement.shutting_down
    session.complete(second)
    assert list(replacement.queue) == [0]
    session.run_out()
    assert sorted(session.ran) == [0, 1, 2, 3, 4]


def test_nothing_can_run_again_before_it_is_collected() -> None:
    session = Session(number([1]), 1)
    with pytest.raises(RuntimeError, match="item-0: nothing is collected yet, expected an item that ran"):
        session.scheduler.mark_test_pending("item-0")
    with pytest.raises(NotImplementedError):
        session.scheduler.remove_pending_tests_from_node(session.workers[0], [0])
    assert session.scheduler.remove_node(session.workers[0]) is None
    with pytest.raises(KeyError):
        session.scheduler.remove_node(session.workers[0])


@pytest.mark.parametrize(
    ("items", "found"),
    [
        (["item-0", "item-2"], "only there item-2; missing there item-1"),
        (["item-1", "item-0"], "another order"),
    ],
)
def test_workers_that_collect_other_tests_end_the_session(items: list[str], found: str) -> None:
    session = Session(number([2]), 2)
    first, second = session.workers
    session.arrive(first)
    session.arrive(second, items)
    session.end_if_finished()
    session.leave()
    assert not session.ran
    assert not session.workers
    (report,) = session.reports
    assert report.longrepr == (
        f"gw1: collected other tests than gw0: {found}; expected the same ones in the same order"
    )


def test_a_replacement_that_collects_other_tests_ends_the_session() -> None:
    session = Session(number([4, 4]), 2)
    session.begin()
    session.crash(session.workers[0])
    replacement = session.coming.pop()
    session.workers.append(replacement)
    session.scheduler.add_node(replacement)
    session.arrive(replacement, ["item-0"])
    session.run_out()
    assert session.ran == [4, 5]
    assert len(session.reports) == 1


@pytest.mark.parametrize("dist", ["each", "no"])
def test_modes_that_spread_nothing_are_left_to_xdist(bench: BenchFolder, dist: str) -> None:
    config = bench.pytester.parseconfigure("--boobench", "--dist", dist)
    workers = config.pluginmanager.get_plugin("boobench-workers")
    assert isinstance(workers, Workers)
    assert workers.pytest_xdist_make_scheduler(config) is None


# --- real workers, real llama.cpp servers


RACKS = ("rack-1", "rack-2", "rack-3", "rack-4")

SPANS = """
    select h.name, c.worker, min(julianday(s.started_at)) * 86400,
           max(julianday(s.started_at) * 86400 + coalesce(s.e2e_ms, 0) / 1000)
    from bench_samples s join bench_cells c on c.id = s.cell_id join bench_runs r on r.id = c.run_id
    join bench_hosts h on h.id = r.host_id group by c.id order by h.name, 3
"""
"""One row for each cell: host, worker, seconds of its first request and of its last answer."""


@pytest.fixture(scope="module")
def racks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Four real llama.cpp servers, each to be taken for a machine of its own."""
    with ExitStack() as stack:
        cache = tmp_path_factory.mktemp("models")
        yield {name: stack.enter_context(start(LIGHT, cache=cache)).url for name in RACKS}


@pytest.fixture
def parallel(bench: BenchFolder, racks: Mapping[str, str]) -> BenchFolder:
    """12 cells on four hosts, in two suite files."""
    bench.write_hosts(**{name: {"server": "llama-server", "url": url, "machine": name} for name, url in racks.items()})
    for name, prompts in (("one", [16, 17]), ("two", [30])):
        bench.write_suite(name, hosts=list(RACKS), grid={"prompt_tokens": prompts, "output_tokens": [4]}, warmup=0)
    return bench


def read_spans(bench: BenchFolder) -> dict[str, list[tuple[str, float, float]]]:
    """Host -> worker, begin and end of each of its cells, as they began."""
    spans: dict[str, list[tuple[str, float, float]]] = {}
    for host, worker, begin_s, end_s in query(bench, SPANS):
        spans.setdefault(host, []).append((worker, begin_s, end_s))
    return spans


def overlapping(spans: Sequence[tuple[str, float, float]]) -> int:
    """How many cells began before the one before them ended; a millisecond is what the stored times leave open."""
    return sum(after[1] < before[2] - 0.001 for before, after in pairwise(spans))


OTHERS = """
    import os, pathlib, pytest

    @pytest.mark.parametrize("number", range(6))
    def test_one(number):
        pathlib.Path(f"ran-{number}-{os.environ['PYTEST_XDIST_WORKER']}").touch()
"""


def require_others(bench: BenchFolder, mode: str) -> None:
    """Each of the other tests ran once; on one worker where the mode keeps a file together."""
    ran = sorted(path.name for path in bench.path.glob("ran-*"))
    assert [name[:5] for name in ran] == [f"ran-{number}" for number in range(6)]
    assert len({name[6:] for name in ran}) == 1 or mode not in ("loadfile", "loadscope")


@pytest.mark.parametrize(("workers", "mode"), [("auto", "load"), ("4", "loadfile")])
def test_a_host_has_one_cell_and_one_worker(parallel: BenchFolder, workers: str, mode: str) -> None:
    parallel.pytester.makepyfile(test_other=OTHERS)
    result = parallel.run_workers("-n", workers, "--dist", mode)
    result.assert_outcomes(passed=18)
    result.stdout.fnmatch_lines(["4 workers [[]18 items]"])
    spans = read_spans(parallel)
    assert {host: len(cells) for host, cells in spans.items()} == dict.fromkeys(RACKS, 3)
    assert {host: overlapping(cells) for host, cells in spans.items()} == dict.fromkeys(RACKS, 0)
    assert {len({worker for worker, _, _ in cells}) for cells in spans.values()} == {1}
    assert len({cells[0][0] for cells in spans.values()}) == 4
    require_others(parallel, mode)


class Counting:
    """A model that knows how many requests it ever had at once, and how many in all."""

    def __init__(self, model: Scenario) -> None:
        self._model = model
        self.now = self.most = self.all = 0

    async def __call__(self, peer: Peer) -> None:
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)
        try:
            await self._model(peer)
        finally:
            self.now -= 1


NAMES_OF_SERVERS = (("one", "uno"), ("other", "another"))


@pytest.fixture
def counting(bench: BenchFolder) -> Iterator[Sequence[Counting]]:
    """The models of two servers with two names each; eight cells of one lane on them, in two files."""
    with openai_server() as one, openai_server() as other:
        models = [Counting(server._scenarios["good"]) for server in (one, other)]
        for server, model in zip((one, other), models, strict=True):
            server._scenarios["good"] = model
        urls = {  # the names of a server apart, so that no half of all cells is one server's by chance
            "one": one.url,
            "other": other.url,
            "uno": one.url.replace("127.0.0.1", "localhost"),
            "another": other.url,
        }
        machines = {name: names[0] for names in NAMES_OF_SERVERS for name in names}
        bench.write_hosts(
            **{
                name: {"server": "openai", "url": url, "shared": False, "machine": machines[name]}
                for name, url in urls.items()
            }
        )
        for name, prompt in (("first", 40), ("second", 50)):
            grid = {"prompt_tokens": [prompt], "output_tokens": [9]}
            bench.write_suite(name, hosts=list(urls), models=["good"], grid=grid)
        yield models


@pytest.mark.parametrize("mode", ["load", "each"])
def test_two_servers_of_one_machine_are_never_measured_at_once(bench: BenchFolder, mode: str) -> None:
    """Two ports of one address, as an old build beside a new one."""
    with openai_server() as old, openai_server() as new:
        model = Counting(old._scenarios["good"])
        old._scenarios["good"] = new._scenarios["good"] = model
        hosts = {"old": old.url, "new": new.url.replace("127.0.0.1", "localhost")}
        bench.write_hosts(**{name: {"server": "openai", "url": url, "shared": False} for name, url in hosts.items()})
        bench.write_suite(hosts=list(hosts), models=["good"], grid={"prompt_tokens": [40, 50], "output_tokens": [9]})
        passed = 8 if mode == "each" else 4
        bench.run_workers("-n", "2", "--dist", mode).assert_outcomes(passed=passed)
    assert (model.most, model.all >= passed * 3) == (1, True)


@pytest.mark.parametrize("mode", ["load", "worksteal", "loadscope", "loadfile", "loadgroup"])
def test_the_servers_themselves_never_see_two_cells_at_once(
    bench: BenchFolder, counting: Sequence[Counting], mode: str
) -> None:
    bench.pytester.makepyfile(test_other=OTHERS)
    bench.run_workers("-n", "2", "--dist", mode).assert_outcomes(passed=14)
    assert [model.most for model in counting] == [1, 1]
    assert all(model.all >= 4 * 3 for model in counting)
    spans = read_spans(bench)
    (one,), (other,) = ({worker for name in names for worker, _, _ in spans[name]} for names in NAMES_OF_SERVERS)
    assert one != other
    require_others(bench, mode)


def test_workers_that_all_run_everything_take_turns_on_each_host(
    bench: BenchFolder, counting: Sequence[Counting]
) -> None:
    """``--dist each``: nobody spreads cells there, the lock alone keeps them apart."""
    bench.run_workers("-n", "2", "--dist", "each").assert_outcomes(passed=16)
    assert [model.most for model in counting] == [1, 1]
    assert all(model.all >= 2 * 4 * 3 for model in counting)
    for cells in read_spans(bench).values():
        assert Counter(worker for worker, _, _ in cells) == {"gw0": 2, "gw1": 2}


GROUPED = """
    import pytest

    def pytest_itemcollected(item):
        item.add_marker(pytest.mark.xdist_group(item.path.name))
"""


def test_groups_keep_nothing_apart_and_change_no_node_id(parallel: BenchFolder) -> None:
    """``--dist loadgroup`` with groups that cut across the hosts, as a conftest may make them for other tests."""
    parallel.pytester.makeconftest(GROUPED)
    racks = RACKS[:2]
    wanted = [part for name in racks for part in ("--boobench-host", name)]
    listed = [line for line in parallel.run("--collect-only", "-q", *wanted).outlines if "::" in line]
    parallel.run_workers("-n", "2", "--dist", "loadgroup", *wanted).assert_outcomes(passed=6)
    spans = read_spans(parallel)
    assert {host: overlapping(cells) for host, cells in spans.items()} == dict.fromkeys(racks, 0)
    assert {len({worker for worker, _, _ in cells}) for cells in spans.values()} == {1}
    assert len({cells[0][0] for cells in spans.values()}) == 2
    stored = [node_id for (node_id,) in query(parallel, "select node_id from bench_cells")]
    if pytest.version_tuple < (9, 2):  # there xdist itself writes the group behind the ids of those that have one
        stored = [node_id.rpartition("@")[0] for node_id in stored]
    assert sorted(stored) == sorted(listed)


MEETING = """
    import os, pathlib, time
    import pytest

    @pytest.fixture(autouse=True, scope="session")
    def _meet():
        here = pathlib.Path("here")
        here.mkdir(exist_ok=True)
        (here / str(os.getpid())).touch()
        end_s = time.monotonic() + 60
        while len(list(here.iterdir())) < 4:
            assert time.monotonic() < end_s, "the other run does not come"
            time.sleep(0.01)
"""


def test_two_runs_at_once_take_turns_on_each_host(parallel: BenchFolder) -> None:
    """Their workers wait for each other before their first cells."""
    parallel.pytester.makeconftest(MEETING)
    racks = RACKS[:2]
    wanted = [part for name in racks for part in ("--boobench-host", name)]
    command = ["-m", "pytest", *parallel.prepare_apart(), "-n", "2", "-p", "no:cacheprovider", *wanted]
    with (parallel.path / "said").open("ab") as said, Path(os.devnull).open("rb") as nothing:
        streams = (nothing.fileno(), said.fileno(), said.fileno())
        runs = [ForkedPython(command, streams, folder=parallel.path, environ=parallel.environ) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0], (parallel.path / "said").read_text()
    spans = read_spans(parallel)
    assert {host: len(cells) for host, cells in spans.items()} == dict.fromkeys(racks, 6)
    assert {host: overlapping(cells) for host, cells in spans.items()} == dict.fromkeys(racks, 0)


KILLER = """
    import os, signal
    import pytest

    @pytest.fixture(autouse=True)
    def _die(request, boobench_host_access):
        if request.node.nodeid.endswith("one.boobench.yaml::rack-2::tiny-chat[pp17-tg4-c1]"):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("args", [(), ("--max-worker-restart", "0")])
def test_a_killed_worker_costs_one_cell(parallel: BenchFolder, args: tuple[str, ...]) -> None:
    parallel.pytester.makeconftest(KILLER)
    result = parallel.run_workers("-n", "2", *args)
    result.assert_outcomes(passed=11, failed=1)
    result.stdout.fnmatch_lines(["*crashed while running 'one.boobench.yaml::rack-2::tiny-chat[[]pp17-tg4-c1]'"])
    spans = read_spans(parallel)
    assert {host: len(cells) for host, cells in spans.items()} == {**dict.fromkeys(RACKS, 3), "rack-2": 2}
    assert {host: overlapping(cells) for host, cells in spans.items()} == dict.fromkeys(RACKS, 0)


FAILING = """
    import pathlib, time
    import pytest

    failed = pathlib.Path("failed")

    @pytest.fixture(autouse=True)
    def _fail(request):
        if "one.boobench.yaml::rack-1::tiny-chat[pp16-" in request.node.nodeid:
            failed.touch()
            pytest.fail("as it must")
        while not failed.exists():
            time.sleep(0.01)
"""


def test_a_failure_stops_soon_and_last_failed_runs_it_again(parallel: BenchFolder) -> None:
    """Of 40 cells the first one fails; those on other hosts wait until it has. Apart: there the cache is written."""
    grid = {"prompt_tokens": list(range(16, 26)), "output_tokens": [4]}
    parallel.write_suite("one", hosts=list(RACKS), grid=grid, warmup=0)
    (parallel.path / "two.boobench.yaml").unlink()
    parallel.pytester.makeconftest(FAILING)
    outcomes = parallel.run_apart("-n", "2", "--maxfail=1").parseoutcomes()
    assert outcomes["errors"] == 1
    assert outcomes.get("passed", 0) < 30
    parallel.pytester.makeconftest("")
    parallel.run_apart("-n", "2", "--lf").assert_outcomes(passed=1)
