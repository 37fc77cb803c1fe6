"""Room 7: JUnit properties, ``boobench.*`` on each test case and on the suite. People read the failure text instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_boobench.plain import take
from pytest_boobench.record import CellRecord, RunFacts, Verdict
from pytest_boobench.untrusted import clean_lines

Property = tuple[str, str]
_TRAFFIC = ("in_flight_at_start", "concurrent_foreign_requests", "foreign_tokens", "model_swaps", "server_restarts")


def properties_of_record(record: CellRecord) -> list[Property]:
    """What was measured: the cell's axes, each metric's median and spread, counts, server and model."""
    found: dict[str, object] = {key: value for key, value in record.identity.items() if not isinstance(value, dict)}
    found |= {f"sampling.{name}": value for name, value in record.identity["sampling"].items()}
    found |= {"samples": record.measured, "failed": len(record.failed), "total_tok_s": _rounded(record.total_tok_s)}
    found |= take(("stalls", "client_limit", "cache_break"), record)
    for key, aggregate in record.aggregates.items():
        found[key] = _rounded(aggregate.median)
        found |= {f"{key}.{name}": _rounded(getattr(aggregate, name)) for name in ("p50", "p90", "p95", "p99", "stdev")}
    if record.server is not None:
        found |= {"server": record.server.kind, "engine_build": record.server.engine_build}
    if record.model is not None:
        found |= {f"model.{name}": getattr(record.model, name) for name in ("quantisation", "size_bytes")}
    if record.traffic is not None:
        found |= take(_TRAFFIC, record.traffic)
    found |= {"attempts": record.attempts, "load_ms": _rounded(record.load_ms)}
    found |= {"depth_ms": _rounded(record.depth_ms), **take(("clock", "error"), record)}
    return _properties(found)


def properties_of_verdicts(verdicts: Sequence[Verdict]) -> list[Property]:
    """How it was judged, one group for each gated metric."""
    found: dict[str, object] = {}
    for verdict in verdicts:
        found[f"verdict.{verdict.metric}"] = verdict.outcome
        found[f"baseline.{verdict.metric}"] = _rounded(verdict.baseline)
        found[f"change.{verdict.metric}"] = _rounded(verdict.change)
        found[f"change_low.{verdict.metric}"] = _rounded(verdict.change_low)
        found[f"change_high.{verdict.metric}"] = _rounded(verdict.change_high)
        found[f"allowed.{verdict.metric}"] = verdict.allowed
        found["baseline.name"] = verdict.baseline_name
    return _properties(found)


def properties_of_run(facts: RunFacts, engine_build: str | None) -> list[Property]:
    """A run's facts for the suite element, named by suite and host since a session may have several runs."""
    prefix = f"{facts.suite}.{facts.host}"
    found: dict[str, object] = {
        f"{prefix}.run": facts.uid,
        f"{prefix}.job_type": facts.job_type,
        f"{prefix}.engine_build": engine_build,
        **take(("session", "git_commit", "workers", "machine"), facts),
        **{f"ci.{key}": value for key, value in facts.ci.items()},
    }
    return _properties(found)


def _properties(found: Mapping[str, object]) -> list[Property]:
    return [(f"boobench.{name}", clean_lines(str(value))) for name, value in found.items() if value is not None]


def _rounded(value: float | None) -> float | None:
    """Six significant digits: more is noise, and the store has them all."""
    return None if value is None else float(f"{value:.6g}")
