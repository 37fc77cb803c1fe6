"""The hooks that a conftest may implement, each in a session of its own."""

from __future__ import annotations

import json

import pytest

from tests.conftest import BenchFolder
from tests.plugin.test_session import LITERAL, query, scale_baselines


def test_a_suite_may_be_another_one(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.pytester.makeconftest(
        """
        from dataclasses import replace

        def pytest_boobench_modify_suite(suite):
            return replace(suite, cells=suite.cells[:1])
        """
    )
    bench.run().assert_outcomes(passed=1)


def test_cells_may_be_added_replaced_and_taken_away(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.pytester.makeconftest(
        """
        from dataclasses import replace

        def pytest_boobench_modify_cells(suite, cells):
            assert suite.name == "smoke"
            cells[:] = [replace(cells[1], prompt_tokens=24, id="pp24-tg4-c1"), cells[0]]
        """
    )
    result = bench.run("-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*::tiny-chat[[]pp24-tg4-c1] PASSED*", "*::tiny-chat[[]pp16-tg4-c1] PASSED*"])
    assert query(bench, "select prompt_tokens from bench_cells order by id") == [(24,), (16,)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "cells.append(cells[0])",
            "two cells llama::tiny-chat[[]pp16-tg4-c1], expected names of their own",
        ),
        (
            "cells.insert(1, replace(cells[0], model='other'))",
            "the cells of a host and model must stay together",
        ),
    ],
)
def test_cells_that_cannot_be_collected_are_an_error(bench: BenchFolder, body: str, message: str) -> None:
    bench.write_suite()
    bench.pytester.makeconftest(
        f"""
        from dataclasses import replace

        def pytest_boobench_modify_cells(cells):
            {body}
        """
    )
    result = bench.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"smoke.boobench.yaml: pytest_boobench_modify_cells: {message}"])


def test_a_server_of_another_kind(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.pytester.makeconftest(
        """
        from dataclasses import replace

        from pytest_boobench.servers.llama_server import LlamaServer

        class Mine(LlamaServer):
            async def facts(self):
                return replace(await super().facts(), kind="mine")

        def pytest_boobench_make_server(host, clients):
            return Mine(host.name, host.base_url, clients)
        """
    )
    result = bench.run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["llama  (mine *"])


def test_another_baseline_and_another_judgement(bench: BenchFolder) -> None:
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4]}, samples=5, **LITERAL)
    bench.run("--boobench-save-baseline")
    scale_baselines(bench, 20.0)
    scale_baselines(bench, 0.05, "prefill_tok_s")
    bench.pytester.makeconftest(
        """
        from dataclasses import replace

        def pytest_boobench_select_baseline(cell, record, baseline):
            return replace(baseline, name=f"chosen for {cell.id}")

        def pytest_boobench_judge(baseline, verdicts):
            assert baseline.name.startswith("chosen")
            return [replace(verdict, outcome="pass", note="on leave") for verdict in verdicts]
        """
    )
    result = bench.run("-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*below baseline chosen for pp16-tg4-c1 *on leave*"])
    assert query(bench, "select distinct note from bench_verdicts where note != ''")[-1] == ("on leave",)


def test_a_run_has_facts_of_others_and_reports_have_their_words(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.pytester.makeconftest(
        """
        def pytest_boobench_run_metadata(suite, host, metadata):
            metadata["driver"] = f"570.1 on {host} for {suite}"

        def pytest_boobench_report_section(rows):
            return "power", f"{len(rows)} cells at 250 W"
        """
    )
    result = bench.run()
    result.stdout.fnmatch_lines(["*= power =*", "2 cells at 250 W"])
    ((metadata,),) = query(bench, "select metadata from bench_runs")
    assert json.loads(metadata) == {"driver": "570.1 on llama for smoke"}
