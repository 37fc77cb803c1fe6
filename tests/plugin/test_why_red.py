"""Why cells are red, in whole sessions: the first line of each, and the closing line of their host."""

from __future__ import annotations

from sqlalchemy import create_engine, text

from tests.conftest import BenchFolder
from tests.plugin.test_session import LITERAL, query


def speed_up_baselines(bench: BenchFolder, where: str) -> None:
    """Make the stored baselines of some cells a million times as fast, beside which no noise matters."""
    columns = ("mean", "median", "min", "max", "p10", "p25", "p50", "p75", "p90", "p95", "p99")
    faster = ", ".join(f"{column} = {column} * 1e6" for column in columns)
    engine = create_engine(f"sqlite:///{bench.path / '.boobench' / 'store.db'}")
    with engine.begin() as connection:
        connection.execute(
            text(f"update bench_aggregates set {faster} where cell_id in (select id from bench_cells where {where})")
        )
    engine.dispose()


def test_what_the_red_cells_have_in_common(bench: BenchFolder) -> None:
    bench.write_suite(
        grid={"prompt_tokens": [16, 48], "output_tokens": [16], "concurrency": [1, 2]},
        gate={"decode_tok_s": {"max_drop": "70%"}},  # requests this short differ by a third
        samples=4,
        **LITERAL,
    )
    bench.run("--boobench-save-baseline").assert_outcomes(passed=4)
    speed_up_baselines(bench, "concurrency = 2")
    result = bench.run("--boobench-summary", "summary.md")
    result.assert_outcomes(failed=2, passed=2)
    why = "only cells with 2 lanes or more fell"
    result.stdout.fnmatch_lines([f"decode *below baseline main (*), 70 % allowed; {why}; *"])
    result.stdout.fnmatch_lines([f"llama: 2 of 4 cells red: *{why}*"])
    assert f"allowed; {why}" in (bench.path / "summary.md").read_text()
    causes = query(bench, "select distinct cause from bench_verdicts where outcome = 'regression'")
    assert causes == [(why,)]
