"""What strikes a session from outside: signals, killed processes, a full disk, a database that goes, clocks that jump.

``python -m tests.benchmarks.faults`` kills at random moments; here each process that can be killed is, once.
"""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pytest_boobench.hosts.embedded import EmbeddedServer
from pytest_boobench.store import Selection, Store
from tests import databases
from tests.conftest import BenchFolder
from tests.plugin.test_session import query
from tests.striking import SMALL, Session, find_losses, find_troubles_of_next, make_project

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
STRIKE = """
    import os, signal
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where this run is a shell's background job

    def pytest_boobench_cell_finished():
        os.kill(os.getpid(), signal.{name})
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_session_in_good_order(bench: BenchFolder, name: str) -> None:
    bench.write_suite()
    not_under_nohup = "\n    signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    bench.pytester.makeconftest(STRIKE.format(name=name) + not_under_nohup)
    result = bench.run_apart("--boobench-json=out.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert query(bench, "select status from bench_runs") == [("interrupted",)]
    assert query(bench, "select count(distinct cell_id) from bench_verdicts") == [(1,)]
    assert len(json.loads((bench.path / "out.json").read_text())["cells"]) == 1
    told = f"boobench: interrupted by {name}; all cells that ended are stored"
    assert (told in result.outlines) == (name != "SIGINT")
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


STRIKE_LATER = {
    "while it waits": """
        def pytest_boobench_cell_finished():
            ended.append(threading.Timer(0.5, strike))
            ended[0].start()
        """,
    "while it works": """
        def pytest_boobench_cell_finished():
            ended.append(True)

        def pytest_boobench_progress(progress):
            if len(ended) == 2:
                open("goes-on", "a").write(progress.state)
            if ended and progress.state == "measuring":
                ended.append(True)
                strike()
        """,
}


@pytest.mark.parametrize("when", STRIKE_LATER)
def test_a_signal_in_the_middle_of_a_cell_of_a_background_job(bench: BenchFolder, when: str) -> None:
    """A shell starts its background jobs with SIGINT ignored."""
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4, 2000]})
    ignored = """
        import os, signal, threading
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ended = []

        def strike():
            os.kill(os.getpid(), signal.SIGTERM)
        """
    bench.pytester.makeconftest(ignored + STRIKE_LATER[when])
    result = bench.run_apart("--boobench-json=out.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert not (bench.path / "goes-on").exists()
    assert "boobench: interrupted by SIGTERM; all cells that ended are stored" in result.outlines
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert query(bench, "select status from bench_runs") == [("interrupted",)]
    assert len(json.loads((bench.path / "out.json").read_text())["cells"]) == 1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_second_signal_ends_it_at_once(bench: BenchFolder, name: str) -> None:
    """Nothing that ended is lost, and nothing is in the way of the next session."""
    bench.write_suite()
    twice = (
        STRIKE.format(name=name) + "\n    def pytest_keyboard_interrupt():\n        pytest_boobench_cell_finished()\n"
    )
    bench.pytester.makeconftest(twice)
    assert bench.run_fresh().ret == -signal.Signals[name]
    assert query(bench, "select count(distinct cell_id) from bench_verdicts") == [(1,)]
    bench.pytester.makeconftest("")
    bench.run().assert_outcomes(passed=2)


def test_signals_that_are_ignored_stay_ignored(bench: BenchFolder) -> None:
    """As by nohup."""
    bench.write_suite()
    ignored = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    (bench.path / "nohup.py").write_text(ignored)
    bench.pytester.makeconftest(STRIKE.format(name="SIGHUP"))
    bench.run_apart("-p", "nohup").assert_outcomes(passed=2)


KILLED = {
    "pytest with leases": (("--boobench-store=.boobench/store.db",), "pytest"),
    "controller": (("-n", "2"), "pytest"),
    "worker": (("-n", "2"), "worker"),
    "server": ((), "server"),
}


@pytest.mark.parametrize("victim", KILLED)
def test_what_is_killed_takes_nothing_with_it(tmp_path: Path, llama: EmbeddedServer, victim: str) -> None:
    """All cells that ended are in the store, nothing lives on, nothing stays locked, and the next session is green."""
    args, part = KILLED[victim]
    rack = {"server": "llama-server", "url": llama.url, "shared": False}
    make_project(tmp_path, {"embedded": SMALL} if part == "server" else {"rack": rack}, output_tokens=32)
    store = tmp_path / ".boobench" / "store.db"
    session = Session(tmp_path, args, forked=True)
    session.wait_for(session.finished)
    time.sleep(random.uniform(0.0, 0.1))
    for struck in session.find(part)[:1]:
        with suppress(psutil.NoSuchProcess):
            struck.kill()
    session.wait()
    assert session.finished()
    assert find_losses(session, store) == []
    assert "INTERNALERROR" not in session.said
    assert find_troubles_of_next(tmp_path, store, *args, forked=True) == []


def test_a_postgresql_that_is_killed_and_comes_back(bench: BenchFolder) -> None:
    url = databases.make_database()
    bench.write_suite()
    bench.pytester.makeconftest(
        """
        from tests import databases

        steps = [databases.kill_postgresql, databases.restart_postgresql]

        def pytest_boobench_cell_finished():
            steps.pop(0)()
        """
    )
    try:
        result = bench.run("--boobench-store", url)
    finally:
        databases.restart_postgresql()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.re_match_lines([r"the store failed: postgresql://.*; 1 cell waited in a file and came in at the end"])
    with Store.open(url) as store:
        assert [bool(one.verdicts) for one in store.measurements(Selection())] == [True, True]


JUMP = """
    import time
    real, off = time.time, [0.0]
    time.time = lambda: real() + off[0]

    def pytest_boobench_cell_finished():
        off[0] += {step}

    def pytest_unconfigure():
        time.time = real
"""


@pytest.mark.parametrize("step", [-90_000.0, 90_000.0])
def test_a_clock_that_is_set_changes_no_number(bench: BenchFolder, step: float) -> None:
    bench.write_suite()
    bench.pytester.makeconftest(JUMP.format(step=step))
    outputs = ("--boobench-report=o.html", "--boobench-summary=o.md", "--boobench-json=o.json", "--junitxml=o.xml")
    result = bench.run("--boobench-save-baseline", *outputs)
    result.assert_outcomes(passed=2)
    assert query(bench, "select count(*) from bench_samples where e2e_ms not between 0 and 60000") == [(0,)]
    assert query(bench, "select count(*) from bench_baselines where replaced_at is null") == [(2,)]


LIMITS: dict[str, tuple[tuple[str, ...], dict[str, str], Callable[[], None] | None]] = {
    "files": (("-n", "2"), {}, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))),
    "no home, no UTF-8": ((), {"HOME": "", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, None),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_narrow_place_is_enough(tmp_path: Path, llama: EmbeddedServer, name: str) -> None:
    args, environ, limit = LIMITS[name]
    make_project(tmp_path, {"rack": {"server": "llama-server", "url": llama.url, "shared": False}})
    outputs = ("--boobench-report=ö.html", "--boobench-summary=o.md", "--boobench-json=o.json")
    session = Session(tmp_path, (*args, *outputs), environ, limit)
    assert (session.wait(), "6 passed" in session.said) == (0, True), session.said
    assert "–" in (tmp_path / "o.md").read_text(encoding="utf-8")


def test_a_disk_that_fills_up_loses_no_cell(bench: BenchFolder) -> None:
    """No file may grow beyond what the spool needs; once there is room again, the next session takes the cell in."""
    grid = {"prompt_tokens": [16], "output_tokens": [4]}
    bench.write_suite(grid=grid)
    bench.pytester.makeconftest(
        """
        import resource

        def pytest_runtest_setup():
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))
        """
    )
    result = bench.run_apart("--boobench-report=o.html", "--boobench-json=o.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "the store failed: *store.db: the disk *; 1 cell kept in *spool-*.jsonl: the next run takes them in, *",
            "boobench: cannot write *o.html: *",
        ]
    )
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    bench.pytester.makeconftest("")
    again = bench.run()
    again.assert_outcomes(passed=1)
    again.stdout.fnmatch_lines(["1 cell of an earlier session taken in from spool-*.jsonl"])
    assert query(bench, "select count(*), count(distinct cell_key) from bench_cells") == [(2, 1)]


FILL = """
    import os, pathlib

    def pytest_runtest_setup():
        with pathlib.Path(os.environ["FULL"], "filler").open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(512))
            except OSError:
                pass
    """
FULL = {
    ".boobench": (
        ("--boobench-host=llama",),
        ["the store failed: *store.db: the disk is full, *; 1 cell kept in */tmp/spool-*.jsonl: boobench store i*"],
    ),
    "out": (
        (
            *("--boobench-host=llama", "--boobench-report=out/o.html"),
            *("--boobench-json=out/o.json", "--boobench-progress=out/o.jsonl"),
        ),
        [
            "--boobench-progress: *o.jsonl ends early: No space left on device",
            "boobench: cannot write *o.html: No space left on device",
            "boobench: cannot write *o.json: No space left on device",
        ],
    ),
    "tmp": (
        ("--boobench-host=embedded",),
        ["the embedded host: its server *: it cannot write to *tmp (no space left on device); let TMPDIR name *"],
    ),
}


@pytest.mark.parametrize("folder", FULL)
def test_a_disk_that_is_full(bench: BenchFolder, folder: str) -> None:
    """A small file system that exists for this session alone: each thing is said in one line."""
    args, said = FULL[folder]
    for name in {folder, "tmp"}:
        (bench.path / name).mkdir()
    bench.write_hosts(embedded={"server": "embedded", "layers": 2})
    bench.write_suite(hosts=["llama", "embedded"], grid={"prompt_tokens": [16], "output_tokens": [4]})
    bench.pytester.makeconftest(FILL)
    mount = f'mount -t tmpfs -o size=400k none "{bench.path / folder}" && exec "$@"'
    session = [sys.executable, "-m", "pytest", *bench.prepare_apart(), "-p", "no:cacheprovider"]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", *session, *args],
        cwd=bench.path,
        env={**bench.environ, "FULL": folder, "TMPDIR": str(bench.path / "tmp")},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this system lets nobody mount: {done.stderr}")
    pytest.LineMatcher(done.stdout.splitlines()).fnmatch_lines(said)
    assert "Traceback" not in done.stdout + done.stderr
