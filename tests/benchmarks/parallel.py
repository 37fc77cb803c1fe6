"""40 cells on four hosts at once, and one host alone: ``python -m tests.benchmarks.parallel [--modes load]``.

The hosts are truth servers, which wait where others compute, so that four of them do not share the machine's cores.
Wall times are whole processes, pytest's start among them; a host's share is from its first request to its last answer
in the same run. A wall time of at most 1.3 times the slowest host's share is wanted.
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tests.benchmarks.schedule import Schedule
from tests.benchmarks.stage import truth_servers

HOSTS = 4
_SUITE = """\
suite: parallel
hosts: [{hosts}]
models: [truth]
grid: {{prompt_tokens: [{prompts}], output_tokens: 32, concurrency: 1}}
samples: 4
"""
_CELLS_PER_HOST = 10
_SHARES = """\
select max(julianday(s.started_at) * 86400 + s.e2e_ms / 1000) - min(julianday(s.started_at)) * 86400
from bench_samples s join bench_cells c on c.id = s.cell_id join bench_runs r on r.id = c.run_id
where r.session = (select session from bench_runs order by id desc limit 1) group by r.host_id
"""


def write_suite(folder: Path, urls: Sequence[str]) -> None:
    """A suite, its hosts file, and a configuration of its own."""
    names = [f"rack-{number}" for number in range(len(urls))]
    hosts = "".join(
        f"  {name}: {{server: openai, url: '{url}', shared: false}}\n" for name, url in zip(names, urls, strict=True)
    )
    prompts = ", ".join(str(64 + number) for number in range(_CELLS_PER_HOST))
    (folder / "boobench.hosts.yaml").write_text(f"hosts:\n{hosts}")
    (folder / "parallel.boobench.yaml").write_text(_SUITE.format(hosts=", ".join(names), prompts=prompts))
    (folder / "pytest.ini").write_text("[pytest]\n")


def time_session(folder: Path, *args: str, cells: int) -> float:
    """Wall time of ``pytest --boobench``, seconds, in which every cell has passed."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--boobench", "-q", "-p", "no:cacheprovider", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    took_s = time.perf_counter() - began
    if f"{cells} passed" not in done.stdout:
        raise RuntimeError(f"pytest {' '.join(args)}: expected {cells} passed, got {done.stdout[-2000:]}")
    return took_s


def read_share(folder: Path) -> float:
    """The slowest host's share of the session that ended last, seconds."""
    with closing(sqlite3.connect(folder / ".boobench" / "store.db")) as store:
        return max(seconds for (seconds,) in store.execute(_SHARES))


def main() -> None:
    """Print one line per session."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modes", default="load,worksteal,loadscope,loadfile")
    modes = parser.parse_args().modes.split(",")
    with tempfile.TemporaryDirectory() as name, truth_servers(HOSTS, Schedule()) as urls:
        folder = Path(name)
        write_suite(folder, urls)
        sessions = {"one host alone": ("--boobench-host", "rack-0")}
        sessions |= {f"-n auto --dist {mode}": ("-n", "auto", "--dist", mode) for mode in modes}
        for title, args in sessions.items():
            wall_s = time_session(folder, *args, cells=_CELLS_PER_HOST * (HOSTS if "-n" in args else 1))
            share_s = read_share(folder)
            print(f"{title}: {wall_s:.1f} s, {wall_s / share_s:.2f} times the slowest host's share of {share_s:.1f} s")


if __name__ == "__main__":
    main()
