"""JUnit properties: ``boobench.*`` on each test case and on the suite. For machines; people read the failure text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_boobench.record import CellRecord, RunFacts, Verdict
from pytest_boobench.untrusted import clean_lines

Property = tuple[str, str]


def properties_of_record(record: CellRecord) -> list[Property]:
    """What was measured: the cell's axes, each metric's median and spread, counts, server and model."""
    found: dict[str, object] = {key: value for key, value in record.identity.items() if not isinstance(value, dict)}
    sampling = record.identity["sampling"]
    found |= {f"sampling.{name}": value for name, value in sampling.items()}
    found |= {"samples": record.measured, "failed": len(record.failed), "total_tok_s": _rounded(record.total_tok_s)}
    found |= {"stalls": record.stalls, "client_limit": record.client_limit}
    for key, aggregate in record.aggregates.items():
        found[key] = _rounded(aggregate.median)
        found |= {f"{key}.{name}": _rounded(getattr(aggregate, name)) for name in ("p50", "p90", "p95", "p99", "stdev")}
    if record.server is not None:
        found |= {"server": record.server.kind, "engine_build": record.server.engine_build}
    if record.model is not None:
        found |= {"model.quantisation": record.model.quantisation, "model.size_bytes": record.model.size_bytes}
    if record.traffic is not None:
        names = (
            "in_flight_at_start",
            "concurrent_foreign_requests",
            "foreign_tokens",
            "model_swaps",
            "server_restarts",
        )
        found |= {name: getattr(record.traffic, name) for name in names}
    found |= {"attempts": record.attempts, "load_ms": _rounded(record.load_ms)}
    found["clock"] = next((sample.clock for sample in record.samples if sample.clock), None)
    found["error"] = record.error
    return _properties(found.items())


def properties_of_verdicts(verdicts: Sequence[Verdict]) -> list[Property]:
    """How it was judged, one group for each gated metric."""
    found: dict[str, object] = {}
    for verdict in verdicts:
        found[f"verdict.{verdict.metric}"] = verdict.outcome
        found[f"baseline.{verdict.metric}"] = _rounded(verdict.baseline)
        found[f"change.{verdict.metric}"] = _rounded(verdict.change)
        found[f"allowed.{verdict.metric}"] = verdict.allowed
        found["baseline.name"] = verdict.baseline_name
    return _properties(found.items())


def properties_of_run(facts: RunFacts, engine_build: str | None) -> list[Property]:
    """A run's facts for the suite element, named by suite and host since a session may have several runs."""
    prefix = f"{facts.suite}.{facts.host}"
    found: dict[str, object] = {
        f"{prefix}.run": facts.uid,
        f"{prefix}.job_type": facts.job_type,
        f"{prefix}.engine_build": engine_build,
        "session": facts.session,
        "git_commit": facts.git_commit,
        "workers": facts.workers,
        "machine": facts.machine,
        **{f"ci.{key}": value for key, value in facts.ci.items()},
    }
    return _properties(found.items())


def _properties(items: Iterable[tuple[str, object]]) -> list[Property]:
    return [(f"boobench.{name}", clean_lines(str(value))) for name, value in items if value is not None]


def _rounded(value: float | None) -> float | None:
    """Six significant digits: more is noise, and the store has them all."""
    return None if value is None else float(f"{value:.6g}")
