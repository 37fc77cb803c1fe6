"""The second pass: doubtful cells run again at the end of their host, and only then have an outcome."""

from __future__ import annotations

import pytest

from tests.conftest import BenchFolder
from tests.plugin.test_session import properties, query, scale_baselines

LITERAL = "--boobench-policy=literal"
"""At the last block the point decides, so that short requests on a busy machine have a verdict all the same."""
FIXTURES = """
import pytest

def note(text):
    with open("fixtures.txt", "a") as file:
        file.write(text + "\\n")

@pytest.fixture(autouse=True, scope="session")
def _session():
    note("session up")
    yield
    note("session down")

@pytest.fixture(autouse=True, scope="class")
def _class(request):
    note(f"{request.node.name} up")
    yield
    note(f"{request.node.name} down")

@pytest.fixture(autouse=True)
def _function(request):
    note(f"{request.node.name} runs")
"""


@pytest.fixture
def doubtful(bench: BenchFolder) -> BenchFolder:
    """Two cells with a baseline twenty times too fast, and room for two blocks each."""
    bench.write_suite(max_samples=4)
    bench.run("--boobench-save-baseline").assert_outcomes(passed=2)
    scale_baselines(bench, 20.0)
    bench.pytester.makeconftest(FIXTURES)
    return bench


@pytest.mark.parametrize("xdist", [(), ("-n", "1")], ids=["alone", "worker"])
def test_a_doubtful_cell_runs_again_after_the_others(doubtful: BenchFolder, xdist: tuple[str, ...]) -> None:
    result = (doubtful.run_workers if xdist else doubtful.run)(LITERAL, "--junitxml=junit.xml", *xdist)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*dd*FF*"] if not xdist else ["*2 failed*"])
    lines = (doubtful.path / "fixtures.txt").read_text().splitlines()
    order = ["tiny-chat[pp16-tg4-c1] runs", "tiny-chat[pp32-tg4-c1] runs"]
    assert [line for line in lines if line.endswith("runs")] == [*order, *order]
    assert [line for line in lines if not line.endswith("runs")] == [
        "session up",
        "llama up",
        "llama down",
        "session down",
    ]


def test_where_nothing_can_come_later_further_blocks_follow_at_once(doubtful: BenchFolder) -> None:
    doubtful.run_workers(LITERAL, "-n", "1", "--dist", "each").assert_outcomes(failed=2)
    assert query(doubtful, "select blocks from bench_cells where blocks > 1") == [(2,)] * 2


def test_the_record_has_both_blocks(doubtful: BenchFolder) -> None:
    doubtful.run(LITERAL, "--junitxml=junit.xml").assert_outcomes(failed=2)
    newest = "id in (select max(id) from bench_cells group by cell_key)"
    stored = query(doubtful, f"select blocks, extended from bench_cells where {newest} order by id")
    assert [blocks for blocks, _ in stored] == [2, 2]
    assert all(why.startswith("block 2: ") and why.endswith(" in doubt") for _, why in stored)
    assert query(
        doubtful,
        f"select block, count(*) from bench_samples where phase = 'measure' and cell_id in "
        f"(select id from bench_cells where {newest}) group by block",
    ) == [(1, 4), (2, 4)]
    assert query(
        doubtful,
        f"select distinct n from bench_aggregates where metric = 'ttft_ms' and cell_id in "
        f"(select id from bench_cells where {newest})",
    ) == [(4,)]
    found = properties(doubtful)
    assert {name: cell["boobench.samples"] for name, cell in found.items()} == {
        "tiny-chat[pp16-tg4-c1]": "4",
        "tiny-chat[pp32-tg4-c1]": "4",
    }


def test_no_time_no_second_pass(doubtful: BenchFolder) -> None:
    result = doubtful.run("--boobench-max-time", "0s")
    result.assert_outcomes(skipped=2)
    assert query(doubtful, "select max(blocks) from bench_cells") == [(1,)]


def test_strict_fails_what_the_default_skips(doubtful: BenchFolder) -> None:
    doubtful.run("--boobench-max-time", "0s", "--boobench-policy", "strict").assert_outcomes(failed=2)


def test_a_session_that_stops_leaves_cells_in_doubt(doubtful: BenchFolder) -> None:
    result = doubtful.run(LITERAL, "-x")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 cell left in doubt: the session ended before *"])


def test_verbose_says_what_is_put_off(doubtful: BenchFolder) -> None:
    result = doubtful.run(LITERAL, "-v")
    result.stdout.fnmatch_lines(["*tiny-chat[[]pp16-tg4-c1] IN DOUBT (*", "*tiny-chat[[]pp16-tg4-c1] FAILED*"])


def test_an_error_at_the_end_of_kept_fixtures_is_told(doubtful: BenchFolder) -> None:
    doubtful.pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(autouse=True, scope="class")
        def _class():
            yield
            raise RuntimeError("the class cannot be left")
        """
    )
    result = doubtful.run(LITERAL)
    result.assert_outcomes(failed=2, errors=1)
    result.stdout.fnmatch_lines(["*RuntimeError: the class cannot be left"])
