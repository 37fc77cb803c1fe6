"""Cells are ordinary test items: ids, selection, fixtures of every scope, marks. No cell is measured here."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

FAKE_ACCESS = """
    import pytest

    @pytest.fixture
    def boobench_record(boobench_cell):
        return None

    @pytest.fixture(autouse=True)
    def _never_judge(monkeypatch):
        from pytest_boobench.plugin.bench import Bench
        monkeypatch.setattr(Bench, "judge", lambda self, item, cell, record: None)
"""
"""Everything but measuring and judging: what is tested is pytest's side of an item."""


class Folder:
    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        strict = "filterwarnings = error\naddopts = --strict-markers\n"
        pytester.makeini(f"[pytest]\n{strict}markers =\n  slow: takes long\n")
        hosts = {"rack-1": {"url": "http://127.0.0.1:9"}, "rack-2": {"url": "http://127.0.0.1:9"}}
        (pytester.path / "boobench.hosts.yaml").write_text(yaml.safe_dump({"hosts": hosts}))
        self.conftest("")

    def conftest(self, text: str) -> None:
        self.pytester.makeconftest(FAKE_ACCESS + text)

    def suite(self, file: str = "chat.boobench.yaml", **changed: object) -> Path:
        fields: dict[str, object] = {
            "suite": file.partition(".")[0],
            "hosts": ["rack-1", "rack-2"],
            "models": ["qwen3-8b", "Qwen/Qwen3-4B:Q4_K_M"],
            "grid": {"prompt_tokens": [64, 512], "output_tokens": [32], "concurrency": [1, 4]},
            **changed,
        }
        path = self.pytester.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(fields, sort_keys=False))
        return path

    def run(self, *args: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess("--boobench", *args)

    def ids(self, *args: str) -> list[str]:
        result = self.run("--collect-only", "-q", *args)
        return [line for line in result.outlines if "::" in line]


@pytest.fixture
def folder(pytester: pytest.Pytester) -> Folder:
    return Folder(pytester)


def test_node_ids(folder: Folder) -> None:
    folder.suite("suites/chat.boobench.yaml", models=["qwen3-8b"])
    assert folder.ids() == [
        f"suites/chat.boobench.yaml::{host}::qwen3-8b[pp{pp}-tg32-c{c}]"
        for host in ("rack-1", "rack-2")
        for pp in (64, 512)
        for c in (1, 4)
    ]


def test_all_cells_pass_and_have_the_suites_place(folder: Folder) -> None:
    folder.suite()
    result = folder.run("-v", "-p", "no:randomly")
    result.assert_outcomes(passed=16)
    result.stdout.fnmatch_lines(["chat.boobench.yaml::rack-1::qwen3-8b[[]pp64-tg32-c1[]] PASSED*"])
    result.stdout.no_fnmatch_line("*<-*")


@pytest.mark.parametrize(
    ("args", "count"),
    [
        (["-k", "rack-2"], 8),
        (["-k", "pp512"], 8),
        (["-m", "boobench"], 16),
        (["-m", "not boobench"], 0),
        (["chat.boobench.yaml::rack-1"], 8),
        (["chat.boobench.yaml::rack-1::qwen3-8b"], 4),
        (["chat.boobench.yaml::rack-1::qwen3-8b[pp64-tg32-c1]"], 1),
        (["chat.boobench.yaml::rack-1::Qwen/Qwen3-4B:Q4_K_M[pp64-tg32-c1]"], 1),
        (["--boobench-host", "rack-1"], 8),
        (["--boobench-host", "rack-1", "--boobench-host", "rack-2"], 16),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_selection(folder: Folder, args: list[str], count: int) -> None:
    folder.suite()
    assert len(folder.ids(*args)) == count


HARD_NAMES = ["/root/.cache/a/tiny.v1.gguf", "/root/.cache/b/tiny.v1.gguf", "x[q4]::y", r"C:\models\win.gguf"]


def test_models_are_called_by_short_names(folder: Folder) -> None:
    """The dots in their names stay dots where pytest shows them."""
    folder.suite(hosts=["rack-1"], models=HARD_NAMES, grid={"prompt_tokens": [64], "output_tokens": [32]})
    names = ["a/tiny.v1[pp64-tg32-c1]", "b/tiny.v1[pp64-tg32-c1]", "x(q4):y[pp64-tg32-c1]", "win[pp64-tg32-c1]"]
    assert folder.ids() == [f"chat.boobench.yaml::rack-1::{name}" for name in names]
    result = folder.run("-v")
    result.assert_outcomes(passed=4)
    for name in names:
        assert f"chat.boobench.yaml::rack-1::{name} PASSED" in result.stdout.str()


@pytest.mark.parametrize(
    ("args", "count"),
    [
        (["-k", "tiny.v1"], 2),
        (["-k", "a/tiny"], 1),
        (["-k", "/root/.cache/a/tiny.v1.gguf"], 1),
        (["-k", "x[q4]::y"], 1),
        (["-k", "win"], 1),
        (["chat.boobench.yaml::rack-1::a/tiny.v1[pp64-tg32-c1]"], 1),
        (["chat.boobench.yaml::rack-1::x(q4):y"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_selection_by_short_and_long_names(folder: Folder, args: list[str], count: int) -> None:
    folder.suite(hosts=["rack-1"], models=HARD_NAMES, grid={"prompt_tokens": [64], "output_tokens": [32]})
    assert len(folder.ids(*args)) == count


def test_last_failed(folder: Folder) -> None:
    folder.suite(models=["qwen3-8b"])
    folder.conftest(
        """
    @pytest.fixture
    def boobench_host_access(boobench_cell):
        yield None

    @pytest.fixture(autouse=True)
    def _fail_one(request):
        if "rack-2" in request.node.nodeid and "pp512-tg32-c4" in request.node.nodeid:
            pytest.fail("this one")
"""
    )
    folder.run().assert_outcomes(passed=7, errors=1)
    result = folder.run("--lf", "-v")
    result.stdout.fnmatch_lines(["*rack-2::qwen3-8b[[]pp512-tg32-c4[]] ERROR*"])
    result.assert_outcomes(errors=1)


@pytest.mark.parametrize("option", ["--setup-plan", "--fixtures-per-test", "--collect-only"])
def test_looking_runs_nothing(folder: Folder, option: str) -> None:
    folder.suite()
    result = folder.run(option)
    assert result.ret == 0
    assert "qwen3-8b" in result.stdout.str()


@pytest.mark.parametrize("scope", ["function", "class", "module", "package", "session"])
def test_autouse_fixtures_of_every_scope(folder: Folder, scope: str) -> None:
    folder.suite()
    folder.conftest(
        f"""
    made = []

    @pytest.fixture(scope="{scope}", autouse=True)
    def _around():
        made.append(1)
        yield

    def pytest_terminal_summary(terminalreporter):
        terminalreporter.write_line(f"made {{len(made)}}")
"""
    )
    result = folder.run()
    result.assert_outcomes(passed=16)
    made = {"function": 16, "class": 2, "module": 1, "package": 1, "session": 1}[scope]
    result.stdout.fnmatch_lines([f"made {made}"])


def test_a_parametrized_autouse_fixture_multiplies_the_cells(folder: Folder) -> None:
    folder.suite(models=["qwen3-8b"])
    folder.conftest(
        """
    @pytest.fixture(params=["cool", "hot"], autouse=True)
    def room(request):
        return request.param
"""
    )
    folder.run().assert_outcomes(passed=16)


OVERRIDES = {
    "plain": """
    @pytest.fixture
    def boobench_host_access(boobench_cell):
        yield "mine"
""",
    "with params": """
    @pytest.fixture(params=[1])
    def boobench_host_access(boobench_cell, request):
        yield "mine"
""",
    "with other fixtures": """
    @pytest.fixture
    def boobench_host_access(boobench_cell, tmp_path, monkeypatch):
        assert tmp_path.is_dir()
        yield "mine"
""",
    "session scope": """
    @pytest.fixture(scope="session")
    def boobench_host_access():
        yield "mine"
""",
}


@pytest.mark.parametrize("override", list(OVERRIDES.values()), ids=list(OVERRIDES))
def test_a_conftest_overrides_the_host_access(folder: Folder, override: str) -> None:
    folder.suite()
    folder.conftest(
        override
        + """
    @pytest.fixture
    def boobench_record(boobench_host_access):
        assert boobench_host_access == "mine"
"""
    )
    folder.run().assert_outcomes(passed=16)


def test_request_knows_module_class_function_and_instance(folder: Folder) -> None:
    folder.suite(models=["qwen3-8b"])
    folder.conftest(
        """
    @pytest.fixture(autouse=True)
    def _look(request):
        assert request.module.__name__ == "chat"
        assert request.cls.__name__ in {"rack-1", "rack-2"}
        assert type(request.instance) is request.cls
        assert callable(request.function)
        assert request.node.get_closest_marker("boobench").kwargs["cell"].suite == "chat"
"""
    )
    folder.run().assert_outcomes(passed=8)


def test_usefixtures(folder: Folder) -> None:
    folder.suite(usefixtures=["fan"])
    folder.conftest(
        """
    used = []

    @pytest.fixture
    def fan():
        used.append(1)

    def pytest_terminal_summary(terminalreporter):
        terminalreporter.write_line(f"used {len(used)}")
"""
    )
    result = folder.run()
    result.assert_outcomes(passed=16)
    result.stdout.fnmatch_lines(["used 16"])


@pytest.mark.parametrize(
    ("marks", "outcome"),
    [
        ([{"skip": "not today"}], {"skipped": 4}),
        (["skip"], {"skipped": 4}),
        ([{"skipif": {"condition": True, "reason": "no"}}], {"skipped": 4}),
        ([{"xfail": {"reason": "slow build"}}], {"xpassed": 4}),
        ([{"xfail": {"reason": "slow build", "strict": True}}], {"failed": 4}),
        (["slow"], {"passed": 4}),
    ],
    ids=str,
)
def test_marks(folder: Folder, marks: list[object], outcome: dict[str, int]) -> None:
    folder.suite(hosts=["rack-1"], models=["qwen3-8b"], marks=marks)
    folder.run().assert_outcomes(**outcome)


def test_marks_of_some_cells_and_their_selection(folder: Folder) -> None:
    folder.suite(overrides=[{"where": {"concurrency": 4}, "marks": ["slow"]}])
    assert len(folder.ids("-m", "slow")) == 8


def test_an_unregistered_mark_is_a_collection_error(folder: Folder) -> None:
    folder.suite(marks=["slwo"])
    result = folder.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*'slwo' not found in `markers` configuration option*"])


def test_bad_suites_are_collection_errors_without_traceback(folder: Folder) -> None:
    folder.suite("good.boobench.yaml")
    folder.suite("bad.boobench.yaml", hosts=["rack-3"], kind="chatt", grid={"prompt_tokens": ["four"]})
    result = folder.run()
    result.assert_outcomes(errors=1)
    out = result.stdout.str()
    assert "bad.boobench.yaml:3: hosts[0]: " in out
    assert "bad.boobench.yaml:" in out
    assert "kind: " in out
    assert "grid.prompt_tokens[0]: expected a whole number from 1, got 'four'" in out
    assert "Traceback" not in out
    assert ".py:" not in out


def test_two_suites_of_one_name(folder: Folder) -> None:
    folder.suite("a.boobench.yaml", suite="same")
    folder.suite("b.boobench.yaml", suite="same")
    result = folder.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["b.boobench.yaml:1: suite: 'same' is the name of a.boobench.yaml too; the store needs two names"]
    )


def test_a_file_given_twice_is_no_second_suite(folder: Folder) -> None:
    folder.suite()
    assert folder.run("chat.boobench.yaml", "chat.boobench.yaml::rack-1").ret == 0


def test_file_patterns(folder: Folder) -> None:
    folder.suite("chat.bench.yaml")
    assert folder.ids() == []
    assert len(folder.ids("-o", "boobench_files=*.bench.yaml")) == 16


def test_too_many_cells(folder: Folder) -> None:
    folder.suite()
    result = folder.run("-o", "boobench_max_cells=10")
    result.stdout.fnmatch_lines(
        ["*chat.boobench.yaml:*: grid: 2 x 1 x 2 x 2 hosts x 2 models = 16 cells, the limit is 10*"]
    )


def test_without_the_flag_there_is_a_hint(folder: Folder) -> None:
    folder.suite()
    result = folder.pytester.runpytest_inprocess("chat.boobench.yaml")
    result.stdout.fnmatch_lines(["boobench: chat.boobench.yaml is a bench suite: add --boobench to run it"])
    assert folder.pytester.runpytest_inprocess().ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--boobench-host", "rack-9"],
            "*--boobench-host: no host 'rack-9' in boobench.hosts.yaml; did you mean 'rack-*'?",
        ),
        (["--boobench-hosts", "nowhere.yaml"], "*boobench: no hosts file *nowhere.yaml; see --boobench-hosts"),
        (["--boobench-max-drop", "much"], "*--boobench-max-drop: expected a percentage such as 10%, got 'much'"),
        (["-o", "boobench_max_cells=none"], "*boobench_max_cells: expected a whole number from 1, got 'none'"),
    ],
    ids=["host", "hosts file", "max drop", "max cells"],
)
def test_bad_options_end_the_session(folder: Folder, args: list[str], message: str) -> None:
    folder.suite()
    result = folder.run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_suites_of_hosts_that_nobody_asks_for_are_not_collected(folder: Folder) -> None:
    """Nor are they read: a copied suite may name hosts that this machine does not know, and have other mistakes."""
    folder.suite("mine.boobench.yaml", suite="mine", hosts=["rack-1"])
    folder.suite("both.boobench.yaml", suite="both", hosts=["rack-77", "rack-1"])
    folder.suite("theirs.boobench.yaml", suite="theirs", hosts=["rack-77"], samples="many")
    result = folder.run("--boobench-host", "rack-1")
    result.assert_outcomes(passed=16, deselected=8)
    assert folder.run("theirs.boobench.yaml").ret == pytest.ExitCode.INTERRUPTED
    folder.suite("theirs.boobench.yaml", suite="theirs", hosts=[])
    result = folder.run("--boobench-host", "rack-1", "theirs.boobench.yaml")
    result.stdout.fnmatch_lines(["*theirs.boobench.yaml:*: hosts: *"])


def test_a_hosts_file_beside_the_suites_is_found(folder: Folder) -> None:
    root = folder.pytester.path
    usual = root / "boobench.hosts.yaml"
    folder.suite("suites/chat.boobench.yaml")
    beside = root / "suites" / "boobench.hosts.yaml"
    beside.write_text("hosts: {rack-2: {url: http://10.0.0.2}}\n")
    result = folder.run("suites", "--boobench-host", "rack-2")
    result.assert_outcomes(passed=8, deselected=8)
    usual.rename(root / "elsewhere.yaml")
    result = folder.run("suites")
    result.stdout.fnmatch_lines(["*no host 'rack-1' in suites/boobench.hosts.yaml; *"])
    for args, others in ((["."], 8), (["suites/chat.boobench.yaml::rack-2"], 0), ([], 8)):
        folder.run(*args, "--boobench-host", "rack-2").assert_outcomes(passed=8, deselected=others)
    folder.run("suites", "--boobench-hosts", "elsewhere.yaml").assert_outcomes(passed=16)


def test_two_hosts_files_beside_the_suites_are_one_too_many(folder: Folder) -> None:
    root = folder.pytester.path
    usual = (root / "boobench.hosts.yaml").read_text()
    (root / "boobench.hosts.yaml").unlink()
    for name in ("a", "b"):
        folder.suite(f"{name}/{name}.boobench.yaml", suite=name)
        (root / name / "boobench.hosts.yaml").write_text(usual)
    result = folder.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            f"ERROR: {root}/a/boobench.hosts.yaml and {root}/b/boobench.hosts.yaml: "
            "two hosts files beside the suites, expected one; name one with --boobench-hosts"
        ]
    )
    folder.run("a").assert_outcomes(passed=16)


def test_a_bad_hosts_file_ends_the_session(folder: Folder) -> None:
    folder.suite()
    (folder.pytester.path / "boobench.hosts.yaml").write_text("hosts: {rack-1: {ulr: http://x}}\n")
    result = folder.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*boobench.hosts.yaml:1: hosts.rack-1.ulr: *"])
