"""`boobench bisect`: over candidates with scripted comparisons, and over commits and programs with braked servers."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pytest_boobench.cli import boobench, main
from pytest_boobench.cli.ab_session import Ab, AbChange, AbSettings
from pytest_boobench.cli.ab_sides import Sides
from pytest_boobench.cli.bisect_builds import BuildError, build, provide_folder, provide_python, read_builds
from pytest_boobench.cli.bisect_candidates import CandidateRow, read_candidates
from pytest_boobench.cli.bisect_checkout import list_sides
from pytest_boobench.cli.bisect_walk import CandidateWalk, StepTarget, WalkState
from pytest_boobench.cli.project import Project
from tests.conftest import CHECKOUT, PATIENT_COMMAND

NAMES = [f"b{number}" for number in range(16)]
SMALL = ("--prompt-tokens", "16", "--output-tokens", "10", "--together", "--metric", "decode_tok_s")
SMALL += ("--max-drop", "30%", "--until", "12%", "--max-time", "2m")
FAST, SLOW = 0.5, 1.5
"""Brakes; a busy machine adds as much to the times of both."""


@pytest.fixture
def project(tmp_path: Path, patience: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\nboobench_quiet = 0s\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["bisect", *args], standalone_mode=False)


# --- the walk, scripted


def see(change: float, half: float = 0.01, outcome: Any = None, **more: Any) -> Ab:
    """A comparison that came to a change."""
    told = outcome or ("regression" if change < -0.1 else "pass")
    decode = AbChange(
        metric="decode_tok_s",
        outcome=told,
        change=change,
        low=change - half,
        high=change + half,
        proven=told == "pass",
        pairs=40,
    )
    return Ab(old="b0", new="x", changes=(decode,), took_s=30.0, **more)


class Script:
    """Comparisons of builds of which all from one on are slower."""

    def __init__(self, slow: int, special: Mapping[int, Ab] | None = None) -> None:
        self.slow = slow
        self.special = special or {}
        self.asked: list[tuple[int, StepTarget | None]] = []

    def __call__(self, place: int, target: StepTarget | None) -> Ab:
        self.asked.append((place, target))
        return self.special.get(place) or see(-0.15 if place >= self.slow else 0.0)


def make_walk(folder: Path, compare: Callable[..., Ab], names: list[str] = NAMES) -> CandidateWalk:
    state = WalkState(provide_folder(folder), {"candidates": names})
    state.load()
    return CandidateWalk(names, state, compare)


@pytest.mark.parametrize("slow", range(1, 16))
def test_the_first_slow_one_is_named(tmp_path: Path, slow: int) -> None:
    script = Script(slow)
    walk = make_walk(tmp_path, script)
    walk.go_on()
    found = walk.describe()
    assert (walk.exit_code, found["certain"], found["first_bad"]) == (1, True, f"b{slow}")
    assert len(script.asked) <= math.log2(16) + 2
    assert list(walk.render())[-1].startswith(f"first slow one: b{slow}; b{slow - 1}, just before it, is good")


def test_steps_are_decided_by_half_of_the_loss(tmp_path: Path) -> None:
    script = Script(5)
    make_walk(tmp_path, script).go_on()
    first, *steps = script.asked
    assert first == (15, None)
    for _, target in steps:
        assert target is not None
        assert target.metric == "decode_tok_s"
        assert target.drop == pytest.approx(1 - math.sqrt(0.85))
        assert target.until == pytest.approx(1 - 0.85 ** (1 / 5))


def test_what_does_not_start_is_passed_over(tmp_path: Path) -> None:
    broken = Ab(old="b0", new="b7", error="b7: it ended with exit code 1")
    walk = make_walk(tmp_path, Script(9, {7: broken}))
    walk.go_on()
    assert walk.describe()["first_bad"] == "b9"
    (line,) = [line for line in walk.render() if line.startswith("b7 ")]
    assert line.endswith("not measured: b7: it ended with exit code 1")


def test_the_smallest_range_where_a_step_cannot_be_told(tmp_path: Path) -> None:
    walk = make_walk(tmp_path, Script(2, {1: see(-0.08)}), NAMES[:3])
    walk.go_on()
    assert walk.exit_code == 3
    assert list(walk.render())[-1] == "slow since one of: b1, b2; b0 is good (2 comparisons of 3 at most)"
    assert walk.describe()["certain"] is False


@pytest.mark.parametrize(
    ("last", "code", "answer"),
    [
        (see(0.0), 0, ["no loss to look for: b15 is not slower than b0"]),
        (see(-0.12, outcome="inconclusive"), 3, ["no loss to look for: b15 cannot be told from b0", "give it more "
         "--max-time, which is another walk, or measure once more with --fresh"]),
    ],
)  # fmt: skip
def test_without_a_loss_there_is_no_walk(tmp_path: Path, last: Ab, code: int, answer: list[str]) -> None:
    script = Script(16, {15: last})
    walk = make_walk(tmp_path, script)
    walk.go_on()
    assert (walk.exit_code, len(script.asked)) == (code, 1)
    assert list(walk.render())[3:] == answer


@pytest.mark.parametrize(("place", "role"), [(0, "first"), (15, "last")])
def test_an_end_that_cannot_be_measured_ends_the_walk(tmp_path: Path, place: int, role: str) -> None:
    broken = Ab(old="b0", new="b15", error=f"b{place}: it ended with exit code 1")
    walk = make_walk(tmp_path, Script(3, {15: broken}))
    walk.go_on()
    assert walk.exit_code == 2
    assert walk.trouble == f"b{place}, the {role} candidate, cannot be measured: b{place}: it ended with exit code 1"


def test_an_interrupted_walk_goes_on_where_it_was(tmp_path: Path) -> None:
    stopped = Script(6, {11: see(0.0, interrupted=True), 3: see(0.0, interrupted=True)})
    walk = make_walk(tmp_path, stopped)
    walk.go_on()
    assert walk.exit_code == 130
    assert [place for place, _ in stopped.asked] == [15, 7, 3]
    again = Script(6)
    walk = make_walk(tmp_path, again)
    walk.go_on()
    assert [place for place, _ in again.asked] == [3, 5, 6]
    assert (walk.exit_code, walk.describe()["first_bad"]) == (1, "b6")
    walk.state.forget()
    assert make_walk(tmp_path, again).state.looks == {}


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1, "looks": {"x": {}}}', '{"schema": 9, "looks": {}}'])
def test_a_state_file_that_is_none(tmp_path: Path, content: str) -> None:
    state = WalkState(provide_folder(tmp_path), {})
    state.path.write_text(content)
    with pytest.raises(click.UsageError, match=r"not a walk that can go on .*; --fresh forgets it"):
        state.load()


# --- candidates and builds


def test_candidates_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("builds.txt").write_text("# oldest first\nb1\n\n b2 \n")
    assert read_candidates("@builds.txt") == ["b1", "b2"]
    assert read_candidates("b1, b2,") == ["b1", "b2"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("b1", "--candidates: expected two or more, the oldest first, got 1"),
        ("b1,b2,b1", "--candidates: 'b1' stands there twice; each is another build"),
        ("b1,--index-url=x", "--candidates: '--index-url=x' looks like an option; write ./ before a file's name"),
        ("@none", "--candidates: none: no such file or directory; expected a file with a line for each"),
    ],
)
def test_candidates_that_are_none(typed: str, message: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        read_candidates(typed)
    assert refused.value.message == message


def test_a_build_that_fails_shows_its_end(tmp_path: Path) -> None:
    failing = [[sys.executable, "-c", "print('x.c:1: no'); raise SystemExit(3)"]]
    with pytest.raises(BuildError, match=r"--build: .* ended with exit code 3: x\.c:1: no"):
        build(failing, tmp_path, tmp_path / "log")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("no-such-program -j", "--build: no program 'no-such-program'; expected one on the PATH"),
        ("make 'x", '--build: no closing quotation in "make \'x"; quote it as for a shell'),
        ("", "--build: expected a command such as 'cmake --build build', got nothing"),
    ],
)
def test_builds_that_are_none(typed: str, message: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        read_builds([typed])
    assert refused.value.message == message


def write_wheel(path: Path, version: str) -> None:
    """A package of one module."""
    about = f"x-{version}.dist-info"
    with zipfile.ZipFile(path / f"x-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("x.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: x\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"x.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")


def test_a_requirement_of_pip_gets_an_environment_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_wheel(tmp_path, "7")
    requirement = str(tmp_path / "x-7-py3-none-any.whl")
    cache = provide_folder(tmp_path)
    python = provide_python(requirement, cache)
    assert provide_python(requirement, cache) == python
    assert capfd.readouterr().err.count("installing: ") == 1
    said = subprocess.run([python, "-c", "import x; print(x.VERSION)"], capture_output=True, text=True, check=True)
    assert said.stdout == "7\n"


def test_a_requirement_that_pip_cannot_install(tmp_path: Path) -> None:
    missing = str(tmp_path / "none-1-py3-none-any.whl")
    with pytest.raises(BuildError, match=r"pip cannot install .*: .*No such file or directory"):
        provide_python(missing, provide_folder(tmp_path))
    assert not (tmp_path / ".boobench" / "bisect" / "environments" / "boobench-complete").exists()


def test_candidates_have_names_of_their_own(project: Path) -> None:
    long = "y" * 80
    row = CandidateRow((f"a/{long}1", f"b/{long}1", "x==1"), [], Sides(Project(project, {}), None, project),
                       AbSettings(store_url=""), Project(project, {}))  # fmt: skip
    names = [row.name(place) for place in range(3)]
    assert names[2] == "x==1"
    assert len(set(names)) == 3


# --- wrong use


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--", "x", "{port}"], "expected one of --good REF, for git bisect run, and --candidates A,B,…"),
        (["--candidates", "a,b"], "expected the server's command line after --, with {port} where its port goes"),
        (["--candidates", "a,b", "--", "x", "{candidate}"], "COMMAND: it needs {port} in one of its words; got "
         "'x {candidate}'"),
        (["--candidates", "a,b", "--", "x", "{port}"], "COMMAND: it needs {candidate}, or {python} for requirements of "
         "pip, in one of its words; got 'x {port}'"),
        (["--candidates", "a,b", "--build", "make", "--", "x", "{port}"], "--build: it is for the checkout of --good"),
        (["--good", "v1", "--", sys.executable, "{port}"], "--good: expected a command line with {port}, a URL, a host "
         "of the hosts file, or a commit where there is git and a checkout; got 'v1'"),
        (["--good", "http://localhost:1", "--", sys.executable], "COMMAND: a command line needs {port}, where the "
         f"server's port goes; got '{sys.executable}'"),
    ],
)  # fmt: skip
def test_wrong_use(project: Path, args: list[str], message: str) -> None:
    result = run(*args)
    assert isinstance(result.exception, click.UsageError)
    assert result.exception.message == message


# --- git


@pytest.mark.parametrize(
    ("found", "sides"),
    [(see(0.0), ["good"]), (see(-0.15), ["bad"]), (see(-0.105), ["untold"]), (see(-0.095), ["untold"])],
)
def test_a_commit_near_what_is_allowed_is_not_told(found: Ab, sides: list[str]) -> None:
    assert list_sides(found.changes, 0.1) == sides


def git(folder: Path, *words: str) -> str:
    names = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, env={**os.environ, **names}
    )
    return done.stdout


@pytest.fixture
def repository(project: Path) -> Path:
    """Six commits: the third does not build, and all from the fifth on are slow."""
    git(project, "init", "--quiet", "--initial-branch", "main")
    (project / "build.py").write_text(
        "import pathlib\nbrake = float(pathlib.Path('brake').read_text())\n"
        "pathlib.Path('out').mkdir(exist_ok=True)\npathlib.Path('out/brake').write_text(str(brake))\n"
    )
    (project / ".gitignore").write_text("out/\ncache/\n")
    (project / "serve.py").write_text(
        "import pathlib, sys\nfrom tests import braked_server\n"
        "sys.argv += ['--brake', pathlib.Path('out/brake').read_text()]\nbraked_server.main()\n"
    )
    for number, brake in enumerate([f"{FAST}", f"{FAST}0", "broken", f"{FAST}00", f"{SLOW}", f"{SLOW}0"], 1):
        (project / "brake").write_text(brake)
        git(project, "add", ".")
        git(project, "commit", "--quiet", "-m", f"commit {number}")
        git(project, "tag", f"v{number}")
    return project


COMMAND = ("--", sys.executable, "serve.py", "--port", "{port}")
BUILD = ("--build", f"{sys.executable} build.py")


def test_git_bisect_run_ends_at_the_guilty_commit(repository: Path) -> None:
    git(repository, "bisect", "start", "v6", "v3")
    verb = [*PATIENT_COMMAND, "bisect", "--good", "v1", *BUILD, *SMALL, *COMMAND]
    said = git(repository, "bisect", "run", *verb)
    first = git(repository, "rev-parse", "v5").strip()
    assert f"{first} is the first bad commit" in said
    assert git(repository, "status", "--porcelain") == ""


def test_a_commit_that_does_not_build_is_passed_over(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "v3")
    result = run("--good", "v1", *BUILD, *SMALL, *COMMAND)
    assert result.return_value == 125
    assert "not to tell: --build: " in result.stderr


def test_a_server_that_does_not_start_is_passed_over(repository: Path) -> None:
    ends = ("--", sys.executable, "-c", "import sys; sys.exit(9)", "{port}")
    good = f"{sys.executable} -m tests.braked_server --port {{port}}"
    result = run("--good", good, *SMALL, *ends)
    assert result.return_value == 125
    assert "ended with exit code 9" in result.stderr


def test_a_good_side_that_does_not_start_stops_it(repository: Path) -> None:
    result = run("--good", f"{sys.executable} -c 'import sys; sys.exit(9)' {{port}}", *BUILD, *SMALL, *COMMAND)
    assert isinstance(result.exception, click.ClickException)
    assert result.exception.message.startswith("the good side cannot be measured: good ")
    assert "it ended with exit code 9 before it answered" in result.exception.message


def test_changes_that_are_not_committed_are_refused(repository: Path) -> None:
    (repository / "brake").write_text("3")
    result = run("--good", "v1", *BUILD, *SMALL, *COMMAND)
    assert isinstance(result.exception, click.UsageError)
    assert result.exception.message == ("brake: not as committed; commit or stash the changes, or say --allow-dirty")


def test_wrong_use_during_a_git_bisect_is_no_answer_to_git(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["bisect", "--good", "no-such-ref", *COMMAND]
    assert main(wrong) == 2
    git(repository, "bisect", "start", "v6", "v1")
    assert main(wrong) == 128
    assert main(["bisect", "--no-such-option"]) == 128
    assert "Traceback" not in capsys.readouterr().err


# --- on servers


def test_folders_with_programs(project: Path) -> None:
    for name, brake in {"b1": FAST, "b2": FAST, "b3": SLOW}.items():
        (project / name).mkdir()
        (project / name / "brake").write_text(str(brake))
    command = (
        "--",
        sys.executable,
        "-m",
        "tests.braked_server",
        "--brake-file",
        "{candidate}/brake",
        "--port",
        "{port}",
    )
    result = run("--candidates", "b1,b2,b3", *SMALL, "--json", *command)
    assert result.return_value == 1, result.output
    found = json.loads(result.stdout)
    assert (found["first_bad"], found["last_good"], found["certain"]) == ("b3", "b2", True)
    assert len(list((project / ".boobench" / "bisect").glob("walk-*.json"))) == 1


def test_own_prompts_tell_two_folders_apart(project: Path) -> None:
    (project / "day.jsonl").write_text(
        '{"text": "Zanzibar whispers"}\n{"text": "nineteen hedgehogs", "output_tokens": 9}\n'
    )
    for name, brake in {"b1": 1.0, "b2": 2.0}.items():
        (project / name).mkdir()
        (project / name / "brake").write_text(str(brake))
    words = f"{sys.executable} -m tests.braked_server --brake-file {{candidate}}/brake --port {{port}}".split()
    asked = (
        "--prompts",
        "day.jsonl",
        "--output-tokens",
        "8",
        "--together",
        "--max-time",
        "1s",
        "--until",
        "30%",
        "--json",
    )
    result = run("--candidates", "b1,b2", *asked, "--", *words)
    assert result.return_value == 1, result.output
    assert json.loads(result.stdout)["first_bad"] == "b2"
    with closing(sqlite3.connect(project / ".boobench" / "store.db")) as store:
        sent = store.execute("select distinct prompt_line, output_tokens from bench_samples order by 1").fetchall()
    assert sent == [(1, 8), (2, 9)]


def test_other_prompts_are_another_walk(project: Path) -> None:
    prompts = project / "day.jsonl"
    asked = AbSettings(store_url="", prompts=prompts)
    row = CandidateRow(("b1", "b2"), ["{candidate}", "{port}"], Sides(Project(project, {}), None, project), asked,
                       Project(project, {}))  # fmt: skip
    paths = []
    for text in ("one", "two", "one"):
        prompts.write_text(json.dumps({"text": text, "output_tokens": 4}))
        paths.append(row.make_walk(fresh=False).state.path)
    assert paths[0] == paths[2] != paths[1]


def test_prompts_that_cannot_be_sent_are_wrong_use(project: Path) -> None:
    (project / "day.jsonl").write_text('{"text": 5}\n')
    for asked in (("--good", "http://localhost:1"), ("--candidates", "a,b")):
        result = run(*asked, "--prompts", "day.jsonl", "--", sys.executable, "{port}", "{candidate}")
        assert isinstance(result.exception, click.UsageError)
        assert result.exception.message.startswith("day.jsonl:1: text: expected ")
