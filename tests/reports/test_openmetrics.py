"""Room 7: the OpenMetrics file, read back by Prometheus' parser and the way GitLab reads it."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields

import pytest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pytest_boobench.facts import Traffic
from pytest_boobench.metrics import METRICS, Sample
from pytest_boobench.record import Verdict
from pytest_boobench.reports.openmetrics import render
from pytest_boobench.reports.session import FinishedCell
from tests.conftest import BenchFolder
from tests.making import make_cell, make_record, make_sample
from tests.reports.test_markdown import HOSTILE

LABELS = {"suite": "smoke", "host": "rack-1", "model": "qwen", "cell": "pp64-tg8-c1"}


def make_row(*verdicts: Verdict, **changed: object) -> FinishedCell:
    names = {key: changed.pop(key) for key in ("host", "model", "suite") if key in changed}
    samples = [
        make_sample(
            index=number,
            decode_tok_s=41.0 + number,
            prefill_tok_s=2200.123456789,
            ttft_ms=30.0 + number,
            prompt_ms=25.0,
            e2e_ms=100.0,
        )
        for number in range(11)
    ]
    samples.append(make_sample(index=11, failure="status", failure_text="500"))
    return FinishedCell(
        make_record(make_cell(**names), **{"samples": samples, "total_tok_s": 80.5, **changed}), "passed", verdicts
    )


def parse(text: str) -> dict[str, Family]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_the_change_of_a_duet_has_its_interval() -> None:
    verdict = Verdict(metric="decode_tok_s", outcome="regression", change=-0.17, change_low=-0.18, change_high=-0.16)
    families = parse(render([make_row(verdict)]))
    ends = {name: families[f"boobench_change_{name}_ratio"].samples[0].value for name in ("low", "high")}
    assert ends == {"low": -0.18, "high": -0.16}


def test_names_units_labels_and_values() -> None:
    verdicts = [
        Verdict(metric="decode_tok_s", outcome="regression", now=41.2, baseline=49.8, change=-0.1726907),
        Verdict(metric="ttft_ms", outcome="no baseline", now=31.0),
    ]
    families = parse(render([make_row(*verdicts)]))
    assert {name: (family.type, family.unit) for name, family in families.items()} == {
        "boobench_decode_tokens_per_second": ("gauge", "tokens_per_second"),
        "boobench_prefill_tokens_per_second": ("gauge", "tokens_per_second"),
        "boobench_ttft_seconds": ("gauge", "seconds"),
        "boobench_queue_seconds": ("gauge", "seconds"),
        "boobench_prompt_seconds": ("gauge", "seconds"),
        "boobench_e2e_seconds": ("gauge", "seconds"),
        "boobench_all_lanes_tokens_per_second": ("gauge", "tokens_per_second"),
        "boobench_change_ratio": ("gauge", "ratio"),
        "boobench_failed_requests": ("gauge", "requests"),
    }
    assert families["boobench_ttft_seconds"].documentation == "request sent to first token, reasoning included"
    points = {
        (name, sample.labels.get("stat")): sample.value
        for name, family in families.items()
        for sample in family.samples
    }
    assert points == {
        ("boobench_decode_tokens_per_second", "median"): 46.0,
        ("boobench_decode_tokens_per_second", "p10"): 42.0,
        ("boobench_prefill_tokens_per_second", "median"): 2200.12,
        ("boobench_prefill_tokens_per_second", "p10"): 2200.12,
        ("boobench_ttft_seconds", "median"): 0.035,
        ("boobench_ttft_seconds", "p95"): 0.0395,
        ("boobench_queue_seconds", "median"): 0.01,
        ("boobench_queue_seconds", "p95"): 0.0145,
        ("boobench_prompt_seconds", "median"): 0.025,
        ("boobench_prompt_seconds", "p95"): 0.025,
        ("boobench_e2e_seconds", "median"): 0.1,
        ("boobench_e2e_seconds", "p95"): 0.1,
        ("boobench_all_lanes_tokens_per_second", None): 80.5,
        ("boobench_change_ratio", None): -0.172691,
        ("boobench_failed_requests", None): 1.0,
    }
    samples = [sample for family in families.values() for sample in family.samples]
    assert all(sample.labels.items() >= LABELS.items() and sample.timestamp is None for sample in samples)
    assert families["boobench_change_ratio"].samples[0].labels == {**LABELS, "metric": "decode_tok_s"}


def test_the_text_itself() -> None:
    lines = render([make_row()]).splitlines()
    name = "boobench_decode_tokens_per_second"
    assert lines[:4] == [
        f"# TYPE {name} gauge",
        f"# UNIT {name} tokens_per_second",
        f"# HELP {name} (generated tokens - 1) / time from first to last token",
        f'{name}{{suite="smoke",host="rack-1",model="qwen",cell="pp64-tg8-c1",stat="median"}} 46',
    ]
    assert lines[-1] == "# EOF"
    assert render([]) == "# EOF\n"


def test_every_metric_has_a_unit_that_openmetrics_knows() -> None:
    sample = make_sample(**{field.name: 1.0 for field in fields(Sample) if field.name in METRICS})
    row = FinishedCell(make_record(samples=[sample]), "passed")
    embedding = FinishedCell(make_record(make_cell(kind="embedding", output_tokens=None), samples=[sample]), "passed")
    units = {family.unit for rows in ([row], [embedding]) for family in parse(render(rows)).values()}
    assert units == {"seconds", "tokens_per_second", "requests", "tokens_per_step", "per_second", "ratio"}
    assert "boobench_embed_tokens_per_second" in parse(render([embedding]))


def test_numbers_that_do_not_speak_of_the_host_are_left_out() -> None:
    """GitLab would show them as a change."""
    disturbed = make_row(host="b", traffic=Traffic(concurrent_foreign_requests=1))
    broken = make_row(host="c", error="the host died in the middle of the cell")
    text = render([disturbed, make_row(host="d"), broken, make_row(host="a")])
    assert list(dict.fromkeys(re.findall(r'host="(.)"', text))) == ["a", "d"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: str) -> None:
    text = render([make_row(host=name, model=name, suite=name)])
    families = parse(text)
    told = {sample.labels["host"] for family in families.values() for sample in family.samples}
    assert len(told) == 1
    assert len(text.splitlines()) == len(text.split("\n")) - 1
    read = [shlex.split(re.sub("#.*$", "", line)) for line in text.splitlines()]
    points = [words for words in read if words]
    assert [len(words) for words in points] == [2] * sum(len(family.samples) for family in families.values())
    assert len({words[0] for words in points}) == len(points)


def test_in_a_session(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.run("--boobench-metrics=out/metrics.txt").assert_outcomes(passed=2)
    families = parse((bench.path / "out" / "metrics.txt").read_text())
    cells = {sample.labels["cell"] for sample in families["boobench_decode_tokens_per_second"].samples}
    assert cells == {"pp16-tg4-c1", "pp32-tg4-c1"}
