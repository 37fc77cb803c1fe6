"""Door 2: the probes of a search for the highest rate, each a session of pytest with a suite that is made for it."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_boobench import HOSTS_FILE
from pytest_boobench.cli.ab_session import IMPOSSIBLE, INTERRUPTED, UNDECIDED, AbSettings, find_models, list_own_prompts
from pytest_boobench.cli.ab_sides import AbSide, write_hosts_file
from pytest_boobench.cli.made_session import MadeSession
from pytest_boobench.cli.project import Project
from pytest_boobench.errors import BoobenchError
from pytest_boobench.gate.capacity import Knee, Probe, start_search
from pytest_boobench.suite.prompt_file import PromptFile, read_prompts
from pytest_boobench.units import percent, quantity

CAPACITY_SUITE = "capacity"
LEAST_REQUESTS = 20
"""Of a probe."""
ALONE_REQUESTS = 5
"""Requests that follow each other before the first probe: they tell how long one takes."""
ALONE_LINES = 20
"""At most so many with own prompts, which are not alike."""
ALONE_SHARE = 0.5
"""If fewer of them are within the SLO, no rate is tried."""
USUAL_S, TIMES_OF_LIMIT = 30.0, 40.0
"""A probe takes as long, and as many times as long as the longest limit, if that is more: a rate just above the knee is
found out only after its queue has grown to the limit."""
_OVERRUN = "it cannot keep up with"


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacitySettings:
    """What is asked of a search."""

    model: str | None = None
    """None: the one model that the host has."""
    prompt_tokens: int = 512
    output_tokens: int = 128
    prompts: Path | None = None
    """Own prompts instead of made-up ones; ``output_tokens`` is for its lines that name none."""
    slo: Mapping[str, float] = field(default_factory=dict)
    """Metric of a request -> the most that it may be, ms."""
    share: float = 0.95
    """Of the requests that must be within it, below 1."""
    max_rate: float | None = None
    """The highest rate to probe; None: 128 times as many as one lane manages."""
    duration_s: float | None = None
    """Of a probe; None: 30 s, or 40 times the longest limit."""
    probes: int = 10
    store_url: str
    load_timeout_s: float | None = None

    @property
    def probe_s(self) -> float:
        """How long the window of a probe is."""
        longest_ms = max((limit for key, limit in self.slo.items() if key != "itl_ms"), default=0.0)
        return self.duration_s or max(USUAL_S, TIMES_OF_LIMIT * longest_ms / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """A search, finished or not."""

    host: str
    model: str | None = None
    share: float
    alone_ms: float | None = None
    """End-to-end time of a request that runs alone."""
    probes: tuple[Probe, ...] = ()
    knee: Knee | None = None
    took_s: float = 0.0
    error: str = ""
    interrupted: bool = False

    @property
    def found(self) -> bool:
        """Whether the knee lies between two rates that were probed."""
        held = [probe.rate for probe in self.probes if probe.share >= self.share]
        missed = [probe.rate for probe in self.probes if probe.share < self.share]
        return self.knee is not None and bool(held) and bool(missed)

    @property
    def exit_code(self) -> int:
        """As `boobench capacity` ends."""
        if self.interrupted:
            return INTERRUPTED
        return IMPOSSIBLE if self.error else 0 if self.found else UNDECIDED


Tell = Callable[[Probe], None]


def find_capacity(side: AbSide, asked: CapacitySettings, project: Project, tell: Tell) -> Capacity:
    """Search on a named side. What the user must mend comes as ``error``; Ctrl-C ends it with what there is."""
    began = time.monotonic()
    found = Capacity(host=side.name, share=asked.share)
    with tempfile.TemporaryDirectory(prefix="boobench-capacity-") as name:
        folder = Path(name)
        try:
            write_hosts_file(folder / HOSTS_FILE, (side,), asked.load_timeout_s)
            chosen = AbSettings(model=asked.model, store_url=asked.store_url, load_timeout_s=asked.load_timeout_s)
            asked = replace(asked, model=find_models(folder / HOSTS_FILE, side, side, chosen).model)
            found = replace(found, model=asked.model)
            made = MadeSession(
                folder=folder, project=project, store_url=asked.store_url, load_timeout_s=asked.load_timeout_s
            )
            for step in _search(_Session(made, side, asked, _read_own(asked)), found):
                found = step
                if found.probes:
                    tell(found.probes[-1])
        except BoobenchError as error:
            found = replace(found, error=str(error))
        except KeyboardInterrupt:
            found = replace(found, interrupted=True)
    return replace(found, took_s=time.monotonic() - began)


def _search(session: _Session, found: Capacity) -> Iterator[Capacity]:
    """The search after each of its steps."""
    asked = session.asked
    alone_ms, share = session.measure_alone()
    found = replace(found, alone_ms=alone_ms)
    yield found
    if share < ALONE_SHARE:
        raise BoobenchError(
            f"{found.host}: even alone only {percent(share)} of {session.alone} requests are within the SLO (they "
            f"take {quantity(alone_ms, 'ms')}); raise its limits, or ask for fewer tokens"
        )
    search = start_search(alone_ms, asked.share, asked.max_rate)
    while len(search.probes) < asked.probes and not search.over:
        search = replace(search, probes=(*search.probes, session.probe(search.choose())))
        found = replace(found, probes=tuple(search.probes), knee=search.knee)
        yield found


@dataclass(frozen=True, slots=True)
class _Session:
    """Runs pytest over one cell at a time."""

    made: MadeSession
    side: AbSide
    asked: CapacitySettings
    own: PromptFile | None = None

    @property
    def alone(self) -> int:
        """Requests that follow each other before the first probe."""
        return min(self._fill_pass(ALONE_REQUESTS), ALONE_LINES)

    @property
    def mean_tokens(self) -> float:
        """Output tokens of a request, on average."""
        usual = self.asked.output_tokens
        return statistics.fmean(line.output_tokens or usual for line in self.own.lines) if self.own else usual

    def count_requests(self, rate: float) -> int:
        """Requests of a probe; of own prompts whole passes over the file, so that each rate has the same mixture."""
        return self._fill_pass(max(LEAST_REQUESTS, round(rate * self.asked.probe_s)))

    def _fill_pass(self, samples: int) -> int:
        """As many, and those that complete the last pass over the own prompts."""
        lines = len(self.own.lines) if self.own else 1
        return math.ceil(samples / lines) * lines

    def measure_alone(self) -> tuple[float, float]:
        """The median end-to-end time of a request that runs alone, and the share of them within the SLO."""
        cell = self._measure({"samples": self.alone, "max_samples": self.alone})
        found = cell["aggregates"]
        if cell["error"] or "e2e_ms" not in found or "slo_share" not in found:
            raise BoobenchError(cell["error"] or _explain_blank(self.side.name, cell))
        return found["e2e_ms"]["median"], found["slo_share"]["mean"]

    def probe(self, rate: float) -> Probe:
        """Send requests at a rate."""
        samples = self.count_requests(rate)
        cell = self._measure({"rate": rate, "samples": samples, "max_samples": samples, "max_failed": samples - 1})
        if cell["error"] and _OVERRUN in cell["error"]:
            return Probe(rate, 0, 0)
        found = cell["aggregates"]
        if cell["error"] or cell["spoiled"] or "slo_share" not in found:
            raise BoobenchError(cell["error"] or cell["spoiled"] or _explain_blank(self.side.name, cell))
        tokens_s = found["lanes_tok_s"]["median"] if "lanes_tok_s" in found else 0.0
        return Probe(rate, round(found["slo_share"]["mean"] * samples), samples, tokens_s / self.mean_tokens)

    def _measure(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """Measure one cell, and return what the session's JSON document says of it."""
        result = self.made.run(self._make_suite(plan))
        if result.interrupted:
            raise KeyboardInterrupt
        told = result.document or {}
        if not told.get("cells"):
            reasons = [each["reason"] for each in told.get("unmeasured", ())]
            raise BoobenchError("; ".join(reasons) or result.last_words)
        (cell,) = told["cells"]
        found: Mapping[str, Any] = cell
        return found

    def _make_suite(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        asked = self.asked
        return {
            "suite": CAPACITY_SUITE,
            "description": "boobench capacity",
            "hosts": [self.side.name],
            "models": [asked.model],
            **(
                list_own_prompts(asked.prompts, self.own, asked.output_tokens)
                if asked.prompts and self.own
                else {"grid": {"prompt_tokens": [asked.prompt_tokens], "output_tokens": [asked.output_tokens]}}
            ),
            "sampling": {"temperature": 0.0, "seed": 42},
            "slo": dict(asked.slo),
            "gate": {},
            **plan,
        }


def _read_own(asked: CapacitySettings) -> PromptFile | None:
    """DocumentError for a file that cannot be sent."""
    return read_prompts(asked.prompts, str(asked.prompts), "chat") if asked.prompts else None


def _explain_blank(host: str, cell: Mapping[str, Any]) -> str:
    blanks = cell.get("blanks") or {}
    reason = blanks.get("slo_share") or blanks.get("e2e_ms") or "no request was answered"
    return f"{host}: nobody can say which requests were within the SLO: {reason}"
