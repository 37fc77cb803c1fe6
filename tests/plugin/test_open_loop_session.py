"""Cells with a rate in whole sessions, on a real llama.cpp."""

from __future__ import annotations

from tests.conftest import BenchFolder
from tests.plugin.test_session import query

GRID = {"prompt_tokens": [16], "output_tokens": [4]}


def test_a_rate_is_measured_stored_and_judged_by_its_floor(bench: BenchFolder) -> None:
    asked = {"rate": [20], "samples": 12, "slo": {"e2e_ms": "60s"}, "gate": {"slo_share": {"at_least": "50%"}}}
    bench.write_suite(grid=GRID, **asked)
    bench.run().assert_outcomes(passed=1)
    ((rate, blocks, total),) = query(bench, "select rate, of_blocks, total_tok_s from bench_cells")
    assert (rate, total) == (20.0, None)
    assert '"slo_share": [1.0]' in blocks
    samples = query(
        bench,
        "select phase, offset_ms, send_lag_ms, ttft_ms from bench_samples where send_lag_ms is not null order by id",
    )
    own = [row for row in samples if row[0] == "measure"]
    assert [round(offset_ms) for _, offset_ms, _, _ in own] == [50 * number for number in range(12)]
    assert len(samples) >= len(own) + 2, "the lead-in is kept as warm-up"
    assert all(lag_ms >= 0 and ttft_ms > lag_ms for _, _, lag_ms, ttft_ms in own)


def test_a_missed_floor_is_red_without_a_baseline(bench: BenchFolder) -> None:
    asked = {"rate": [50], "samples": 30, "max_samples": 30, "slo": {"e2e_ms": 0.001}}
    bench.write_suite(grid=GRID, gate={"slo_share": {"at_least": "99%"}}, **asked)
    result = bench.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["within SLO: 0 % of 30 requests, at least 99 % are asked"])


def test_both_halves_of_a_pair_have_the_same_arrivals_and_each_pair_has_others(bench: BenchFolder) -> None:
    light = {"server": "embedded", "layers": 1, "width": 256, "feed_forward": 256, "slots": 4}
    bench.write_hosts(new=light, old=light)
    gate = {"goodput_rps": "50%", "slo_share": "50%", "e2e_ms": "900%"}
    asked = {"rate": [20], "arrival": "poisson", "samples": 8, "slo": {"e2e_ms": "60s"}, "gate": gate}
    bench.write_suite(hosts=["new"], grid=GRID, **asked)
    bench.run("--boobench-duet", "old").assert_outcomes(passed=1)
    ((pairing, of_blocks),) = query(bench, "select pairing, of_blocks from bench_cells")
    assert pairing == "windows"
    assert '"slo_share": [1.0, 1.0' in of_blocks
    columns = "block, attempt, reference, offset_ms"
    rows = query(bench, f"select {columns} from bench_samples where phase = 'measure' order by {columns}")
    halves: dict[tuple[int, int], dict[int, list[int]]] = {}
    for block, attempt, reference, offset_ms in rows:
        halves.setdefault((block, attempt), {}).setdefault(reference, []).append(round(offset_ms))
    assert len(halves) >= 10
    assert all(pair[0] == pair[1] and len(pair[0]) == 8 for pair in halves.values())
    assert len({tuple(pair[0]) for pair in halves.values()}) == len(halves)
    verdicts = query(bench, "select metric, outcome, now, change_low, samples from bench_verdicts order by metric")
    pairs = verdicts[0][-1]
    assert verdicts[1:] == [("goodput_rps", "pass", 20.0, 0.0, pairs), ("slo_share", "pass", 1.0, 0.0, pairs)]
