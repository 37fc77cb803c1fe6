"""Door 3: one run's files, as they grow, as the state of its cells and as events that a stream can resume."""

from __future__ import annotations

import asyncio
import json
import math
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import psutil

from pytest_boobench.page.api_types import BusyHost, CellLane, CellState, LaneSpan, RunAnswer, RunState, SpanKind
from pytest_boobench.page.run_keeper import EXIT, OUTPUT
from pytest_boobench.untrusted import clean_lines, to_count, to_number, to_objects, to_text

PROGRESS, ABOUT = "progress.jsonl", "run.json"
EXIT_WORDS: Mapping[int, str] = {
    0: "passed", 1: "failed", 2: "interrupted", 3: "internal error", 4: "usage error", 5: "no cells",
}  # fmt: skip
_OVER = ("finished", "failed")
_KINDS: Mapping[str, SpanKind] = {
    "waiting": "waiting", "loading": "loading", "warming up": "warm-up", "measuring": "measuring", "in doubt": "idle",
}  # fmt: skip
_MOST_SPANS = 64
"""Of a lane; older ones are dropped."""
_QUIET_S = 0.3
"""A line without its end is sent after this time without more."""
_TELL_EVERY_S = 1.0
"""How often the run as a whole is told: its cells tell themselves at once."""
_BUSY = re.compile(r"^(?P<host>.+?): (?:busy|not quiet)(?: after waiting [\d.]+ s)?: (?P<said>.*)", re.MULTILINE)
_LEASED = re.compile(r"^(?:ERROR: )?(?P<host>.+?): its machine \(.*?\) is leased by (?P<said>.*?); ", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAbout:
    """What was asked for, and the process that does it; kept as a file."""

    id: str
    command: str
    """To be copied."""
    started_at: float
    hosts: tuple[str, ...]
    estimates_s: Mapping[str, float | None]
    """Node id -> how long its first block takes; None if it was never measured."""
    pid: int = 0
    """Of the keeper, which leads the process group."""
    pid_created_at: float = 0.0
    """A number of a process may come again; with its start it does not."""

    def is_alive(self) -> bool:
        """Whether its keeper still runs."""
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.pid_created_at and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def find_refused(sentences: Sequence[str]) -> tuple[BusyHost, ...]:
    """The hosts that refused, and who uses them, from the messages of `hosts.quiet` and of the leases."""
    found: dict[str, list[str]] = {}
    for sentence in sentences:
        for match in (*_BUSY.finditer(sentence), *_LEASED.finditer(sentence)):
            who = re.sub(
                r"^\d+ foreign requests? in flight: |^a request came and went while we looked: ", "", match["said"]
            )
            found.setdefault(match["host"], []).extend(who.split("; "))
    return tuple(BusyHost(host=host, who=tuple(dict.fromkeys(who))) for host, who in found.items())


@dataclass(eq=False)
class RunFile:
    """A run, followed by its files: what pytest writes, its progress, its end."""

    about: RunAbout
    folder: Path
    cells: dict[str, CellState] = field(default_factory=dict)
    session: str | None = None
    stopping: bool = False
    exit_code: int | None = None
    ended_at: float | None = None
    series: str = field(default_factory=lambda: secrets.token_hex(4))
    """Of the events' numbers: another server, which reads the same files, counts anew."""
    sequence: int = 0
    """Number of the newest event."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced, with each event."""
    _events: dict[str, tuple[int, str, Any]] = field(default_factory=dict)
    """Name -> number, kind and data of its newest event: of each cell one, of the output one for each piece."""
    _offsets: dict[str, int] = field(default_factory=dict)
    _rest: bytes = b""
    """The begun line of the progress."""
    _said: str = ""
    """The begun line of the output."""
    _said_at: float = 0.0
    _told_at: float = -math.inf
    _untold: bool = False
    """Whether the run as a whole has changed since it was told."""

    @property
    def state(self) -> RunState:
        """Whether it still runs."""
        return "ended" if self.ended_at is not None else "stopping" if self.stopping else "running"

    def describe(self) -> RunAnswer:
        """The run as the API has it."""
        done = [one for one in self.cells.values() if one.state in _OVER]
        red = tuple(one.node_id for one in done if one.state == "failed")
        told = [one.sentence for one in done if one.sentence] + ([self._tail()] if self.exit_code == 4 else [])
        refused = find_refused(told)
        return RunAnswer(
            id=self.about.id,
            session=self.session,
            command=self.about.command,
            state=self.state,
            started_at=self.about.started_at,
            ended_at=self.ended_at,
            exit_code=self.exit_code,
            exit_word=self._name_exit(bool(refused) and len(done) == len(red)),
            hosts=self.about.hosts,
            done=len(done),
            total=len(self.about.estimates_s),
            left_s=self._find_left_s(),
            red=red,
            refused=refused,
        )

    def _name_exit(self, refused: bool) -> str | None:
        if self.ended_at is None:
            return None
        if self.exit_code is None or self.exit_code < 0:
            return "killed"
        return (
            "refused" if refused and self.exit_code else EXIT_WORDS.get(self.exit_code, f"exit code {self.exit_code}")
        )

    def _find_left_s(self) -> float | None:
        """Of the cells that run what they say themselves, of the others the estimates; None where one is unknown."""
        if self.ended_at is not None:
            return 0.0
        left = 0.0
        for node_id, estimate_s in self.about.estimates_s.items():
            cell = self.cells.get(node_id)
            if cell is not None and cell.state in _OVER:
                continue
            own = cell.left_s if cell is not None and cell.left_s is not None else estimate_s
            if own is None or not math.isfinite(own):
                return None
            left += own
        return left

    def _tail(self) -> str:
        return "".join(data["text"] for _, kind, data in self._events.values() if kind == "output")[-4000:]

    def poll(self) -> bool:
        """Read what is new; whether the run has ended."""
        if self.ended_at is not None:
            return True
        over = self._read_exit()
        before = self.sequence
        self._read_progress()
        self._read_output(flush=over is not None)
        if over is not None:
            self.exit_code, self.ended_at = over
            self._note("end", "end", None)
        else:
            self._tell(changed=self.sequence != before)
        return over is not None

    def _tell(self, *, changed: bool) -> None:
        self._untold = self._untold or changed
        if self._untold and time.monotonic() - self._told_at >= _TELL_EVERY_S:
            self._told_at, self._untold = time.monotonic(), False
            self._note("run", "run", None)

    def _read_exit(self) -> tuple[int | None, float] | None:
        """The exit code and time of the end; None while it runs. Without the file, the keeper was killed."""
        alive = self.about.is_alive()  # first: it may end between both looks
        with suppress(OSError, ValueError, KeyError):
            told = json.loads((self.folder / EXIT).read_text(encoding="utf-8"))
            return int(told["exit_code"]), float(told["ended_at"])
        return None if alive else (None, time.time())

    def _read_new(self, name: str) -> bytes:
        try:
            with (self.folder / name).open("rb") as file:
                file.seek(self._offsets.get(name, 0))
                new = file.read()
        except OSError:
            return b""
        self._offsets[name] = self._offsets.get(name, 0) + len(new)
        return new

    def _read_progress(self) -> None:
        *lines, self._rest = (self._rest + self._read_new(PROGRESS)).split(b"\n")
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):
                told = json.loads(line)
                self.session = to_text(told["run"]) or self.session
                state = follow_cell(self.cells.get(told["node_id"]), told, self.about.started_at)
                self.cells[state.node_id] = state
                self._note(f"cell {state.node_id}", "progress", state)

    def _read_output(self, *, flush: bool) -> None:
        new = self._read_new(OUTPUT).decode("utf-8", "replace")
        if new:
            self._said_at = time.monotonic()
        whole, end, self._said = (self._said + new).rpartition("\n")
        if self._said and (flush or time.monotonic() - self._said_at > _QUIET_S):
            whole, end, self._said = f"{whole}{end}{self._said}", "", ""
        if whole or end:
            text = "\n".join(map(clean_lines, f"{whole}{end}".split("\n")))
            self._note(f"output {self.sequence}", "output", {"text": text})

    def _note(self, name: str, kind: str, data: Any) -> None:
        self.sequence += 1
        self._events.pop(name, None)
        self._events[name] = (self.sequence, kind, data)
        self.changed.set()
        self.changed = asyncio.Event()

    def list_events(self, after: int) -> list[tuple[int, str, Any]]:
        """(number, kind, data) of what came after an event, each cell once; from the beginning where there is none."""
        newer = [*takewhile(lambda one: one[0] > after, reversed(self._events.values()))]
        return [(number, kind, self.describe() if data is None else data) for number, kind, data in reversed(newer)]

    def name_event(self, number: int) -> str:
        """An event's number as a reader keeps it."""
        return f"{self.series}-{number}"

    def find_event(self, name: str) -> int:
        """The number of an event that a reader has seen; 0 for one that this server never told: it begins anew."""
        series, _, number = name.partition("-")
        known = series == self.series and number.isdecimal() and len(number) < 16
        return int(number) if known and int(number) <= self.sequence else 0


def follow_cell(before: CellState | None, told: Mapping[str, Any], began_at: float) -> CellState:
    """A cell after one more line of progress; KeyError and TypeError for a line that is none."""
    at, state = float(told["at"]), str(told["state"])
    same = before is not None and before.state == state
    lanes = {lane.lane: list(lane.spans) for lane in before.lanes} if before is not None else {}
    if not same:
        _change_state(lanes, state, at - began_at)
    requests = to_objects(told.get("requests"))
    if requests:
        _end_block(lanes)
    for request in requests:
        if request.get("phase") == "measure":  # the warm-up has one span, of the cell
            _add_request(lanes, request, began_at)
    return CellState(
        node_id=str(told["node_id"]),
        suite=str(told["suite"]),
        host=str(told["host"]),
        model=str(told["model"]),
        cell=str(told["cell"]),
        state=state,
        phase=to_text(told.get("phase")),
        done=to_count(told.get("done")) or 0,
        total=to_count(told.get("total")) or 0,
        tok_s=to_number(told.get("tok_s")),
        left_s=to_number(told.get("left_s")),
        note=to_text(told.get("note")),
        outcome=to_text(told.get("outcome")),
        sentence=clean_lines(sentence) if isinstance(sentence := told.get("sentence"), str) and sentence else None,
        since=before.since if same and before is not None else at,
        lanes=tuple(CellLane(lane=lane, spans=tuple(lanes[lane][-_MOST_SPANS:])) for lane in sorted(lanes)),
    )


def _change_state(lanes: dict[int, list[LaneSpan]], state: str, now_s: float) -> None:
    """End the first lane's open span; begin another where the state is one of a cell, and not of its requests."""
    _end_block(lanes)
    spans = lanes.setdefault(0, [])
    if spans and spans[-1].to_s is None:
        spans[-1] = replace(spans[-1], to_s=now_s)
    if state in _KINDS:
        spans.append(LaneSpan(kind=_KINDS[state], from_s=now_s, to_s=None))


def _end_block(lanes: dict[int, list[LaneSpan]]) -> None:
    """Take the open span of a block away: its requests tell themselves once it is over."""
    if (spans := lanes.get(0)) and spans[-1].to_s is None and spans[-1].kind == "measuring":
        spans.pop()


def _add_request(lanes: dict[int, list[LaneSpan]], request: Mapping[str, Any], began_at: float) -> None:
    """The spans of one request that is over: prefill to the first token, reasoning to the first visible one, decode."""
    sent_at, e2e_ms = to_number(request.get("started_at")), to_number(request.get("e2e_ms"))
    if sent_at is None or e2e_ms is None:
        return
    from_s = sent_at - began_at
    first_ms, visible_ms = to_number(request.get("ttft_ms")), to_number(request.get("ttfo_ms"))
    ends: list[tuple[SpanKind, float | None]] = [("prefill", e2e_ms if first_ms is None else first_ms)]
    if first_ms is not None:
        ends += [("reasoning", visible_ms), ("decode", e2e_ms)]
    spans = lanes.setdefault(to_count(request.get("lane")) or 0, [])
    last_ms = 0.0
    for kind, end_ms in ends:
        if end_ms is not None and end_ms > last_ms:
            spans.append(LaneSpan(kind=kind, from_s=from_s + last_ms / 1000, to_s=from_s + end_ms / 1000))
            last_ms = end_ms
