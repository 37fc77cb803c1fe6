"""How far clients are from the truth, side by side, in Markdown: ``python -m tests.benchmarks.fidelity``.

For each number of streams and each gap between tokens, on the machine as it is and with two processes that hog the CPU,
every client reads the same schedule from a truth server. Errors are sizes in ms, p50 / p99 / max; see ``traces``.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import statistics
import sys
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass

from pytest_boobench.servers.chunks import BLUR_MS
from tests.benchmarks import stage
from tests.benchmarks.clients import CLIENTS, Load
from tests.benchmarks.peers import PEERS, Job, run_peer
from tests.benchmarks.schedule import Schedule
from tests.benchmarks.traces import Spread, round_to_two_digits, spread

_HOGS = 2
_PROMPT = "x" * 64
_ENOUGH_STREAMS = 64
_MOST_ROUNDS = 10
_RIVALS = ("httpx", "aiohttp")
_HEAD = ("client", "TTFT error", "ITL error", "e2e error", "chunk stamp error", "CPU s", "CPU µs/token", "peak MB")
_PEER_HEAD = ("tool", "TTFT error", "mean ITL error", "CPU s", "wall s")


@dataclass(frozen=True, slots=True)
class Setting:
    """One table."""

    streams: int
    schedule: Schedule
    busy: bool
    rounds: int

    def __str__(self) -> str:
        machine = f"{_HOGS} CPU hogs beside it" if self.busy else "nothing beside it"
        times = f", {self.rounds} times" if self.rounds > 1 else ""
        streams = "1 stream" if self.streams == 1 else f"{self.streams} streams at once"
        return f"{streams}{times}, {self.schedule.gap_ms:g} ms gaps, {machine}"


@dataclass(frozen=True, slots=True)
class Errors:
    """A client's errors under one load, ms."""

    ttft: Spread
    itl: Spread
    e2e: Spread
    chunk: Spread
    ttft_from_read: Spread
    """With the server's own receive lag charged to the client."""


def errors_of(result: stage.Result) -> Errors:
    """Every error of every stream."""
    traces = result.traces
    return Errors(
        ttft=spread(trace.ttft_error_ms() for trace in traces),
        itl=spread(error for trace in traces for error in trace.itl_errors_ms()),
        e2e=spread(trace.e2e_error_ms() for trace in traces),
        chunk=spread(error for trace in traces for error in trace.chunk_errors_ms()),
        ttft_from_read=spread(trace.ttft_error_ms(from_read=True) for trace in traces),
    )


def compare(setting: Setting, names: Sequence[str], servers: int) -> Mapping[str, stage.Result]:
    """Runs each client under the same load, one after the other."""
    body = {"model": "truth", "stream": True, "messages": [{"role": "user", "content": _PROMPT}]}
    results = {}
    with stage.truth_servers(servers) as urls, stage.hogs(_HOGS) if setting.busy else nullcontext():
        load = Load(urls, setting.streams, setting.rounds, {**body, **asdict(setting.schedule)})
        for name in names:
            try:
                results[name] = stage.run_client(name, load)
            except RuntimeError as error:
                print(f"{error}\n")
    return results


def render(results: Mapping[str, stage.Result]) -> Iterable[str]:
    """The table's lines, and below it what the servers did meanwhile."""
    errors = {name: errors_of(result) for name, result in results.items()}
    rivals = [name for name in _RIVALS if name in results]
    yield from _table_head((*_HEAD, *(f"{name} at p99: TTFT, chunks; CPU" for name in rivals)))
    for name, result in results.items():
        mine = errors[name]
        sizes = (mine.ttft, mine.itl, mine.e2e, mine.chunk)
        cost = (f"{result.cpu_s:.2f}", f"{_cpu_us(result):.0f}", f"{result.peak_mb:.0f}")
        ratios = (
            f"{_ratio(errors[rival].ttft.p99, mine.ttft.p99)}, {_ratio(errors[rival].chunk.p99, mine.chunk.p99)}; "
            f"{_ratio(_cpu_us(results[rival]), _cpu_us(result))}"
            for rival in rivals
        )
        yield _line((name, *map(str, sizes), *cost, *ratios))
    yield ""
    for name, result in results.items():
        yield from _remarks(name, result, errors[name])


def _remarks(name: str, result: stage.Result, errors: Errors) -> Iterable[str]:
    late = spread(trace.late_ns / 1e6 for trace in result.traces)
    yield f"- {name}: server behind its schedule by {late}; TTFT error with its receive lag {errors.ttft_from_read}"
    if result.limit:
        off = [abs(error) > BLUR_MS for trace in result.traces for error in trace.chunk_errors_ms()]
        yield f"- {name}: {result.limit}; {sum(off) / len(off):.0%} of the stamps are off by more than {BLUR_MS:g} ms"
    if result.lost:
        yield f"- {name}: **{len(result.lost)} streams lost**, the first one: {result.lost[0]}"


def compare_peers(setting: Setting, names: Sequence[str]) -> Iterable[str]:
    """The same for other tools: their own reports beside the median of what the server did."""
    yield from _table_head(_PEER_HEAD)
    for name in names:
        with stage.truth_servers(1, setting.schedule) as urls, stage.hogs(_HOGS) if setting.busy else nullcontext():
            job = Job(urls[0], "truth", len(_PROMPT), setting.schedule.tokens, setting.streams, setting.rounds)
            try:
                reported = run_peer(name, job)
            except RuntimeError as error:
                yield _line((name, f"failed: {' '.join(str(error).split())[:200]}", "", "", ""))
                continue
            told = _ask_what_was_sent(urls[0])
        ttft_ms = statistics.median((one["first_ns"] - one["asked_ns"]) / 1e6 for one in told)
        itl_ms = statistics.median((one["end_ns"] - one["first_ns"]) / 1e6 for one in told) / (job.output_tokens - 1)
        ttft = spread(value - ttft_ms for value in reported.ttft_ms)
        itl = spread(value - itl_ms for value in reported.itl_ms)
        yield _line((name, str(ttft), str(itl), f"{reported.cpu_s:.2f}", f"{reported.wall_s:.1f}"))


def _ask_what_was_sent(url: str) -> Sequence[Mapping[str, int]]:
    with urllib.request.urlopen(f"{url}/requests") as answer:
        told: Sequence[Mapping[str, int]] = json.load(answer)
    return told


def _cpu_us(result: stage.Result) -> float:
    return result.cpu_s * 1e6 / result.events if result.events else float("nan")


def _ratio(rival: float, mine: float) -> str:
    return f"× {round_to_two_digits(rival / mine)}" if mine else "–"


def _table_head(titles: Sequence[str]) -> Iterable[str]:
    yield _line(titles)
    yield _line(["---"] * len(titles))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _settings(options: argparse.Namespace) -> Iterable[Setting]:
    machines = [busy for busy, wanted in ((False, not options.busy), (True, not options.idle)) if wanted]
    for busy, streams, gap_ms in itertools.product(machines, options.streams, options.gaps):
        rounds = options.rounds or min(max(_ENOUGH_STREAMS // streams, 1), _MOST_ROUNDS)
        yield Setting(streams, Schedule(gap_ms=gap_ms, tokens=options.tokens), busy, rounds)


def _read_options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fidelity", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=numbers, default=[1, 16, 64, 256, 1000])
    parser.add_argument("--gaps", type=lambda text: [float(part) for part in text.split(",")], default=[10.0, 1.0])
    parser.add_argument("--clients", type=lambda text: text.split(","), default=list(CLIENTS))
    parser.add_argument("--peers", type=lambda text: text.split(","), default=[], help=", ".join(PEERS))
    parser.add_argument("--tokens", type=int, default=64, help="of each stream")
    parser.add_argument("--rounds", type=int, help="each number of streams so many times; else for 64 streams in all")
    parser.add_argument("--servers", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="truth servers")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--idle", action="store_true", help="only without CPU hogs")
    only.add_argument("--busy", action="store_true", help="only with CPU hogs")
    return parser.parse_args()


def main() -> None:
    """The command line."""
    options = _read_options()
    system = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    print(f"{today}, {system}: `{' '.join(['python -m tests.benchmarks.fidelity', *sys.argv[1:]])}`\n")
    print("Errors in ms, p50 / p99 / max.\n")
    for setting in _settings(options):
        print(f"### {setting}\n\nLoad before it: {os.getloadavg()[0]:.1f}\n", flush=True)
        print("\n".join(render(compare(setting, options.clients, options.servers))), flush=True)
        if options.peers:
            print("\n" + "\n".join(compare_peers(setting, options.peers)), flush=True)
        print()


if __name__ == "__main__":
    main()
