"""Room 4: the finished facts of one cell, as they go from worker to reporting process, store, gate and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from typing_extensions import Doc

from pytest_boobench.aggregate import (
    CLIENT_LATE,
    Aggregate,
    counted,
    find_contradiction,
    find_rate_sources,
    find_trend,
    find_trend_of_pairs,
    measured,
)
from pytest_boobench.conversations import find_cache_break
from pytest_boobench.facts import (
    Canary,
    ClientFacts,
    Hardware,
    Logprobs,
    ModelFacts,
    ReferenceRates,
    ServerFacts,
    Traffic,
)
from pytest_boobench.metrics import ClockKind, Sample
from pytest_boobench.plain import Since, list_facts, take
from pytest_boobench.suite.cell import Cell

JobType = Literal["bench", "eval"]
RunStatus = Literal["running", "finished", "interrupted"]
Pairing = Literal["requests", "conversations", "windows", "starts"]
"""Requests or whole conversations in turns to two running servers, windows of requests at a rate, or turns of several
requests with a server restarted for each."""
VoteWord = Literal["a", "b", "c", "d", "tie", "both bad"]
"""Which of the answers to one prompt is the best: that of a side, or of none."""
Outcome = Literal["pass", "regression", "improvement", "inconclusive", "no baseline", "not comparable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One session of one suite on one host, as known when its first cell is done."""

    uid: str
    """Unique name of the run, 32 hex digits."""
    session: str
    """Unique name of the pytest session, shared by its runs."""
    suite: str
    host: str
    started_at: float
    """Seconds since 1970 UTC."""
    job_type: JobType = "bench"
    user: str | None = None
    machine: str | None = None
    """Name of the client machine."""
    cpu: str | None = None
    """Model of its processor."""
    git_commit: str | None = None
    git_dirty: bool | None = None
    ci: Mapping[str, str] = field(default_factory=dict)
    """The CI system's facts of its job: provider, job, url, ref."""
    workers: int = 1
    """Processes that measure in parallel in this session."""
    plugin_version: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The result of the hook `pytest_boobench_run_metadata`, plain JSON."""
    imported_from: Annotated[str | None, Since("0003")] = None
    """The tool that measured these results, as in ``llama-bench``; None if this package did."""

    @property
    def client(self) -> ClientFacts:
        """The machine that measured."""
        return ClientFacts(machine=self.machine, cpu=self.cpu, workers=self.workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """The circumstances of a measurement. A baseline keeps them, and the gate compares them with the present ones.

    A new circumstance is one field here, with `Since` and `Doc`, and its migration: store, baseline file and JSON
    follow.
    """

    engine_build: Annotated[str | None, Doc("The engine's own name of its build.")] = None
    model: Annotated[ModelFacts | None, Doc("The model file.")] = None
    clock: Annotated[ClockKind | None, Doc("Where times were taken.")] = None
    canary: Annotated[Canary | None, Doc("How fast this machine was.")] = None
    text_digest: Annotated[str | None, Doc("Fingerprint of what the model says.")] = None
    """None if the suite does not ask for it."""
    command: Annotated[str | None, Doc("The command line that started the server."), Since("0003")] = None
    """As in a shell, without its port and its secrets; None if unknown."""
    driver: Annotated[str | None, Doc("The graphics driver."), Since("0003")] = None
    """Of this machine, if the server runs on it."""
    hardware: Annotated[Hardware | None, Doc("Clocks, power and memory of its processors."), Since("0004")] = None
    logprobs: Annotated[Logprobs | None, Doc("The model's probabilities of a fixed text."), Since("0004")] = None
    """None if the suite does not ask for it."""
    reference_rates: Annotated[
        ReferenceRates | None, Doc("How fast the reference of the host's machine was."), Since("0004")
    ] = None
    """None if the hosts file names no reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFacts(Circumstances):
    """The facts of one measurement of a cell, new or stored.

    A new fact is one field here, with `Since`, and its migration: the store's column, rows, exports and JSON follow.
    """

    node_id: str
    cell_key: str
    identity: Mapping[str, Any]
    """`Cell.identity`, plain JSON."""
    started_at: float
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    total_tok_s: float | None = None
    """All lanes together, in wall time."""
    load_ms: float | None = None
    """How long the host took to load the model before the cell, or to start if we start it; None if it was loaded or
    the host cannot tell."""
    rss_peak_mb: Annotated[float | None, Since("0003")] = None
    """Peak resident memory of a server that we started, all its processes together, since its start; 10^6 bytes."""
    vram_peak_mb: Annotated[float | None, Since("0003")] = None
    """Highest observed memory that a server on this machine used on all GPUs together; 10^6 bytes."""
    server_log: Annotated[str | None, Since("0003")] = None
    """The log file of a server that we started."""
    traffic: Traffic | None = None
    """Other requests on the host during the samples; None if nobody watched or the host cannot tell."""
    extended: str = ""
    """Why more than the first block was measured, in words."""
    reference_host: str | None = None
    """The other host of a duet."""
    pairing: Annotated[Pairing | None, Since("0003")] = None
    """What the pairs of a duet are; None: no duet, or one of an older version, whose pairs were requests."""
    blanks: Annotated[Mapping[str, str], Since("0002")] = field(default_factory=dict)
    """Metric -> why it is None, for those that such a cell usually has."""
    depth_ms: Annotated[float | None, Since("0004")] = None
    """How long the host took to evaluate the context before the prompts, all lanes and blocks together."""
    of_blocks: Annotated[Mapping[str, tuple[float, ...]], Since("0004")] = field(default_factory=dict)
    """Its value in each block, by the name of a metric of blocks, or of a number of `Hardware`."""
    error: str | None = None
    """Why the cell could not be measured, or not completely; None if it was."""

    @property
    def disturbed(self) -> str | None:
        """Who disturbed the last measurement, in words; None if nobody did or nobody can tell."""
        return f"disturbed: {self.traffic}" if self.traffic is not None and self.traffic.disturbed else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CondensedFacts(CellFacts):
    """A measurement without its samples, but with facts derived from them. Each is a property of `CellRecord`."""

    blocks: int = 1
    attempts: int = 1
    stalls: int = 0
    spoiled: str | None = None
    """Why the measurement cannot become a baseline; None if it can."""
    client_limit: str | None = None
    rates: Annotated[str | None, Since("0002")] = None
    contradiction: Annotated[str | None, Since("0002")] = None
    cache_break: Annotated[str | None, Since("0004")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRecord(CellFacts):
    """All facts of one measurement of one cell, with its samples."""

    suite: str
    host: str
    samples: tuple[Sample, ...] = ()
    server: ServerFacts | None = None
    takeover: bool = False
    """Whether the host was used without checking whether others use it."""
    client: ClientFacts = field(default_factory=ClientFacts)
    canaries: tuple[Canary, ...] = ()
    """How fast this machine was before each block, in their order; empty if the host is another machine."""
    reference: ServerFacts | None = None
    """The server of a duet's other host."""
    worker: str = "main"

    @property
    def closed(self) -> bool:
        """Whether no further block can be measured: these are another tool's results."""
        return False

    def __post_init__(self) -> None:
        """Set the circumstances from the server, the samples and the canaries."""
        clocks = (sample.clock for sample in self.samples if sample.clock)
        told = {
            "engine_build": self.server.engine_build if self.server else None,
            "clock": next(clocks, None),
            "canary": self.canaries[-1] if self.canaries else None,
        }
        for name, value in told.items():
            if value is not None:
                object.__setattr__(self, name, value)

    @property
    def client_limit(self) -> str | None:
        """The message that the client, and not the host, was the bottleneck of a metric; None if it was not."""
        return next((reason for reason in self.blanks.values() if reason.startswith(CLIENT_LATE)), None)

    @property
    def contradiction(self) -> str | None:
        """How the server contradicts the client's clock in at least half of the samples; None if it does not."""
        return find_contradiction(self.samples)

    @property
    def rates(self) -> str | None:
        """Whose clock the rates are from: server, client or mixed; None without rates."""
        return find_rate_sources(self.samples)

    @property
    def cache_break(self) -> str | None:
        """At which turn of its conversations the prefix cache breaks, in words; None if it holds or is unknown."""
        return find_cache_break(measured(self.samples), self.model.cache_block if self.model else None)

    @property
    def clean(self) -> bool:
        """Whether the cell was measured completely, warm and undisturbed: only then may it become a baseline."""
        return self.error is None and self.spoiled is None

    @property
    def spoiled(self) -> str | None:
        """Why the numbers are not the host's usual speed: still warming up, or disturbed; None if they are."""
        return self.still_warming or self.disturbed

    @property
    def still_warming(self) -> str | None:
        """The message that the newest block still became faster and faster; None if it did not."""
        newest = [sample for sample in self.samples if sample.block == self.blocks]
        return find_trend(measured(newest)) if self.reference_host is None else find_trend_of_pairs(newest)

    @property
    def blocks(self) -> int:
        """Number of measured blocks. The first has the size that the suite sets; so has each that was added."""
        return max((sample.block for sample in self.samples), default=1)

    @property
    def stalls(self) -> int:
        """Stalls of all counted samples together."""
        return sum(sample.stalls for sample in counted(self.samples))

    @property
    def failed(self) -> tuple[Sample, ...]:
        """The measured samples that failed."""
        return tuple(sample for sample in measured(self.samples) if not sample.ok)

    @property
    def measured(self) -> int:
        """Number of measured samples, with failed ones."""
        return len(measured(self.samples))

    @property
    def attempts(self) -> int:
        """The most attempts of any block: another one follows if it was disturbed or still warming up."""
        return max((sample.attempt for sample in self.samples), default=1)


APART_S = 1800.0
"""Sessions closer than this share the state of the host, so they count as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRun(Circumstances):
    """One measurement of a cell inside a baseline, or one that came after it."""

    run_uid: str
    session: str
    """The pytest session that measured it."""
    measured_at: float
    saved_at: float
    aggregates: Mapping[str, Aggregate]
    git_commit: str | None = None
    client: ClientFacts = field(default_factory=ClientFacts)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLook:
    """What one earlier measurement of a host says about its noise, whatever its suite."""

    host: str
    series: str
    """The same for measurements that an unchanged host would repeat: of one cell, with one build, flags and model."""
    session: str
    """The pytest session that measured it."""
    measured_at: float
    medians: Mapping[str, float]
    """Metric -> median, of the judged ones."""
    settled: bool = True
    """False if a verdict on it was a regression, or inconclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNoise:
    """How much the sessions of an unchanged host differ, from all that it measured."""

    sessions: int
    """So many sessions were compared, each at least half an hour from the others."""
    by_metric: Mapping[str, float]
    """Metric -> standard deviation between sessions of the logarithm of a cell's median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The stored reference of one cell: a name and the runs saved under it, oldest first, at least one."""

    name: str
    cell_key: str
    suite: str
    runs: tuple[BaselineRun, ...]
    host: str = ""
    """Empty if it is not known."""
    host_noise: HostNoise | None = None
    """None if the host has too few sessions to learn it from."""
    later: tuple[BaselineRun, ...] = ()
    """Clean later runs of the same engine build and flags that passed: they show how much runs differ, but do not
    change the level."""
    node_id: str = ""
    """Of its newest run."""
    prompts: str = ""
    """SHA-256 of the suite's own prompts; empty: the prompts were made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on one gated metric of one cell."""

    metric: str
    outcome: Outcome
    now: float | None = None
    """The cell's median."""
    baseline: float | None = None
    """The baseline's level, same unit."""
    change: float | None = None
    """now / baseline - 1; None if that cannot be divided."""
    change_low: Annotated[float | None, Since("0003")] = None
    """For a duet: the lower end of the interval that holds the true change with 95 % confidence."""
    change_high: Annotated[float | None, Since("0003")] = None
    """Its upper end."""
    allowed: float | None = None
    """The allowed worsening, a ratio; for a distance from the baseline its limit, in the metric's unit."""
    baseline_name: str | None = None
    reason: str = ""
    """Why it was not judged, if it was not."""
    fast_change: float | None = None
    """As ``change``, for the fastest tenth of the samples."""
    noise: float | None = None
    """By how much an unchanged server may seem worse, as a ratio: a smaller change is not believed."""
    run_noise: float | None = None
    """Standard deviation between runs of the logarithm of their medians, measured or assumed."""
    sessions: int | None = None
    """Number of the baseline's sessions; those less than half an hour apart count as one."""
    samples: int | None = None
    blocks: int | None = None
    proven: bool = False
    """For a pass: whether a change as large as the allowed one can be ruled out."""
    note: str = ""
    """What differs from the baseline's measurement, or is assumed, in words."""
    cause: Annotated[str, Since("0004")] = ""
    """Of a regression: what the slower cells of the host have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement(CondensedFacts):
    """A stored measurement of a cell without its samples: one point of the cell's history."""

    id: int
    """The store's id of it."""
    run: RunFacts
    verdicts: tuple[Verdict, ...] = ()
    samples: int = 0
    """Counted ones, good or failed."""
    failed: int = 0
    baselines: tuple[str, ...] = ()
    """Names under which it is in force as a baseline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """A person's vote on the answers of several sides to one prompt."""

    voted_at: float
    """Seconds since 1970 UTC."""
    prompt_sha256: str
    """64 hex digits; the text is not kept."""
    sides: tuple[Mapping[str, str], ...]
    """Host and model of each side, in the order in which they were shown."""
    vote: VoteWord
    seed: int | None = None
    blind: bool = False
    """Whether the names were hidden until the vote."""


def identify(cell: Cell, node_id: str, *, started_at: float, **found: Any) -> CellRecord:
    """Make a record from the cell's names and ``found``."""
    return CellRecord(
        node_id=node_id,
        cell_key=cell.key,
        suite=cell.suite,
        host=cell.host,
        identity=cell.identity,
        started_at=started_at,
        **found,
    )


DERIVED = tuple(name for name in list_facts(CondensedFacts) if name not in list_facts(CellFacts))
"""Properties of a `CellRecord` that are known even without its samples."""


def make_baseline_run(run: RunFacts, measured: CellRecord | Measurement, saved_at: float) -> BaselineRun:
    """Make a measurement part of a baseline."""
    return BaselineRun(
        run_uid=run.uid,
        session=run.session,
        git_commit=run.git_commit,
        client=run.client,
        measured_at=measured.started_at,
        saved_at=saved_at,
        aggregates=measured.aggregates,
        **take(list_facts(Circumstances), measured),
    )
