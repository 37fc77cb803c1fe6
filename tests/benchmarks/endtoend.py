"""Whole sessions on real llama.cpp servers: ``python -m tests.benchmarks.endtoend [calm slowed hogs duet]``.

A baseline is saved on a calm machine; then the same server is judged again and again: unchanged, braked by 20 %, and
unchanged under two processes that burn the cores. Then duets under those: with an equal twin, and with one braked by
25 %. A server is braked by stopping its process for a share of each hundredth of a second: all it does becomes slower,
and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pytest_boobench.hosts.embedded import EmbeddedServer, EmbeddedSettings, start
from tests.benchmarks.stage import hogs

_SUITE = """\
suite: endtoend
hosts: [judged]
models: [tiny-chat]
grid: {prompt_tokens: 256, output_tokens: 96, concurrency: [1, 4]}
sampling: {temperature: 0.0, seed: 42}
samples: 12
"""
_BRAKE = """\
import os, signal, sys, time
pid, share, parent = int(sys.argv[1]), float(sys.argv[2]), os.getppid()
while os.getppid() == parent:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.01 * share)
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.01 * (1 - share))
"""
HOGS = 2
DUET = ("--boobench-duet", "old", "-k", "c1]")
"""With one lane only: under hogs a pair of four takes seconds."""


@contextmanager
def brake(server: EmbeddedServer, share: float) -> Iterator[None]:
    """Takes a share of its time from a server while the block lasts."""
    process = subprocess.Popen([sys.executable, "-c", _BRAKE, str(server.pid), str(share)])
    try:
        yield
    finally:
        process.kill()
        process.wait()
        os.kill(server.pid, signal.SIGCONT)


class Bench:
    """A folder with one suite and a hosts file, and sessions in it."""

    def __init__(self, folder: Path, servers: Mapping[str, EmbeddedServer], gap_s: float) -> None:
        hosts = {
            name: {"server": "llama-server", "url": server.url, "shared": False} for name, server in servers.items()
        }
        (folder / "boobench.hosts.yaml").write_text(json.dumps({"hosts": hosts}))
        (folder / "endtoend.boobench.yaml").write_text(_SUITE)
        (folder / "pytest.ini").write_text(f"[pytest]\nboobench_block_gap = {gap_s}s\n")
        self._folder = folder

    def run(self, *args: str) -> Counter[str]:
        """How the cells of a session stand."""
        file = self._folder / "session.json"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--boobench",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--boobench-json={file}",
        ]
        done = subprocess.run([*command, *args], cwd=self._folder, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"pytest: exit code {done.returncode}: {done.stdout[-1500:]}")
        cells = json.loads(file.read_text())["cells"]
        for cell in cells:
            said = "; ".join(verdict["sentence"] for verdict in cell["verdicts"] if verdict["outcome"] != "pass")
            print(f"    {cell['node_id'].partition('::')[2]}: {cell['standing']}" + (f": {said}" if said else ""))
        return Counter(cell["standing"] for cell in cells)


def count(title: str, sessions: int, run: Callable[[], Counter[str]]) -> None:
    """Run sessions and print a row for them."""
    began, found, red = time.monotonic(), Counter[str](), 0
    for number in range(sessions):
        print(f"  {title}, {number + 1} of {sessions}, load {os.getloadavg()[0]:.1f}", flush=True)
        standing = run()
        found += standing
        red += standing["regression"] > 0
    words = ", ".join(f"{number} {standing}" for standing, number in sorted(found.items()))
    print(f"| {title} | {sessions} | {red} | {words} | {(time.monotonic() - began) / sessions:.0f} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """All scenes, or those that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scenes = ("calm", "slowed", "hogs", "duet")
    parser.add_argument("scenes", nargs="*", help=f"{', '.join(scenes)}; all where none is named")
    parser.add_argument("--gap", type=float, default=20.0, help="seconds between blocks; sessions of users take 60")
    asked = parser.parse_args(arguments)
    wanted = asked.scenes or scenes
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="boobench-endtoend-")))
        servers = {name: stack.enter_context(start(EmbeddedSettings())) for name in ("judged", "old")}
        judged, bench = servers["judged"], Bench(folder, servers, asked.gap)
        print("| scene | sessions | of them with a red item | items | seconds a session |\n|---|---|---|---|---|")
        print(dict(bench.run("--boobench-save-baseline")))
        if "calm" in wanted:
            count("calm, unchanged", 10, bench.run)
        if "slowed" in wanted:
            with brake(judged, 0.20):
                count("calm, slowed by 20 %", 5, bench.run)
        if "hogs" in wanted:
            with hogs(HOGS):
                count("two hogs, unchanged", 5, bench.run)
        if "duet" in wanted:
            with hogs(HOGS):
                count("two hogs, duet with an equal twin", 5, lambda: bench.run(*DUET))
                with brake(judged, 0.25):
                    count("two hogs, duet, slowed by 25 %", 5, lambda: bench.run(*DUET))


if __name__ == "__main__":
    main()
