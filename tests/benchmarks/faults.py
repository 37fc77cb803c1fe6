"""``python -m tests.benchmarks.faults [--moments 50] [--seed N]``: kill -9 at random moments of sessions of six cells.

Struck are pytest itself (also while it has leases in a shared store), a worker of xdist, and the embedded server. After
each: every finished cell is in the store, which is whole; no process, lock or lease is left; the next session is green.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

from pytest_boobench.hosts.embedded import EmbeddedSettings, start
from tests.striking import SMALL, Session, find_losses, find_troubles_of_next, make_project

LONG = {"output_tokens": 128, "samples": 12}
TARGETS = {
    "pytest": ((), "pytest"),
    "pytest with leases": (("--boobench-store=team.db",), "pytest"),
    "controller of two workers": (("-n", "2"), "pytest"),
    "worker": (("-n", "2"), "worker"),
    "embedded server": ((), "server"),
}
"""What is struck -> the session's arguments, and which of its processes that is."""


def strike(folder: Path, target: str, after_s: float) -> tuple[str, list[str]]:
    """How the session ended, and what was wrong after it."""
    args, part = TARGETS[target]
    store = folder / ("team.db" if "leases" in target else ".boobench/store.db")
    session = Session(folder, args)
    # A worker that dies before it has collected is an internal error of xdist itself.
    session.wait_for(lambda: session.find(part) and (part != "worker" or session.has_begun()))
    time.sleep(after_s)
    for victim in session.find(part)[:1]:
        with suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
    code = session.wait()
    troubles = find_losses(session, store)
    if "INTERNALERROR" in session.said or "Traceback" in session.said:
        troubles.append(session.said[-3000:])
    how = f"{len(session.finished())} finished, exit code {code}"
    return how, troubles + find_troubles_of_next(folder, store, *args)


def main() -> int:
    """Print a line for each moment, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    bad: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory() as place,
        start(EmbeddedSettings(layers=1, width=256, feed_forward=256)) as server,
    ):
        for number in range(asked.moments):
            target = list(TARGETS)[number % len(TARGETS)]
            folder = Path(place, str(number))
            folder.mkdir()
            rack = {"server": "llama-server", "url": server.url, "shared": False}
            make_project(folder, {"rack": rack} if "leases" in target else {"embedded": SMALL}, **LONG)
            after_s = chance.uniform(0.0, 4.0)
            how, troubles = strike(folder, target, after_s)
            bad[target] += bool(troubles)
            print(
                f"{number + 1:3} {target:26} {after_s:4.2f} s  {how}  {'; '.join(troubles) or 'all right'}", flush=True
            )
    print(f"{asked.moments} moments, seed {asked.seed}: {sum(bad.values())} with something wrong: {dict(bad)}")
    return 1 if sum(bad.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
