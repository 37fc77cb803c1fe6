"""The CI recipes: valid by the CI systems' own schemas, and their commands do what the text says."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import check_jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result
from groovy_parser import parser as groovy
from lark.exceptions import UnexpectedInput

from tests.conftest import PATIENT, PLUGINS, BenchFolder, name_plugins
from tests.pages import list_blocks
from tests.plugin.test_session import scale_baselines
from tests.test_manual import DECLARED

groovy.create_groovy_parser = functools.cache(groovy.create_groovy_parser)  # half a second of processor each time
PAGE = "pytest_boobench/manual/ci.md"


def find(language: str, start: str, page: str = PAGE) -> str:
    """The one block of a page that starts so."""
    (text,) = (block.text for block in list_blocks(language, page=page) if block.text.startswith(start))
    return text


GITHUB, GITLAB = find("yaml", "name: bench\n"), find("yaml", "bench:\n")
JENKINS, BY_HAND = find("groovy", "pipeline "), find("sh", "pytest --boobench suites/ --boobench-save-baseline")
SCHEMAS = {"vendor.github-workflows": GITHUB, "vendor.gitlab-ci": GITLAB}
INSTALL = "python3 -m venv .venv && .venv/bin/pip install 'pytest-boobench[report]'"
BASE = ".venv/bin/pytest --boobench suites/ --junitxml=boobench.xml --boobench-report=boobench.html"


def list_commands(system: str) -> list[str]:
    """A recipe's shell commands, in order."""
    if system == "jenkins":
        return re.findall(r'^ *sh "(.*)"$', JENKINS, re.MULTILINE)
    recipe: dict[str, Any] = yaml.safe_load(GITHUB if system == "github" else GITLAB)
    if system == "gitlab":
        return [*recipe["bench"]["script"]]
    return [step["run"] for step in recipe["jobs"]["bench"]["steps"] if "run" in step]


def test_the_readme_has_the_same_recipe() -> None:
    assert find("yaml", "name: bench\n", page="README.md") == GITHUB


def validate(schema: str, text: str, folder: Path) -> Result:
    """By the schema that check-jsonschema brings along; no network."""
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return CliRunner().invoke(check_jsonschema.main, ["--builtin-schema", schema, str(path)])


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_recipe_is_valid_by_its_systems_schema(schema: str, tmp_path: Path) -> None:
    result = validate(schema, SCHEMAS[schema], tmp_path)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ("vendor.github-workflows", "runs-on:", "run-on:"),
        ("vendor.github-workflows", "on: [pull_request, workflow_dispatch]", "on: [pull_requests]"),
        ("vendor.github-workflows", "- uses: actions/checkout@v5", "- use: actions/checkout@v5"),
        ("vendor.gitlab-ci", "expose_as:", "exposed_as:"),
        ("vendor.gitlab-ci", "when: always", "when: ever"),
        ("vendor.gitlab-ci", "script:", "scripts:"),
    ],
)
def test_a_spoilt_recipe_is_not(schema: str, right: str, wrong: str, tmp_path: Path) -> None:
    assert right in SCHEMAS[schema]
    result = validate(schema, SCHEMAS[schema].replace(right, wrong), tmp_path)
    assert result.exit_code == 1
    assert "Schema validation errors were encountered." in result.output


def test_the_jenkinsfile_is_groovy() -> None:
    groovy.parse_groovy_content(JENKINS)


@pytest.mark.parametrize(("right", "wrong"), [("'bench')", "'bench)"), (": true", " true,")])
def test_a_spoilt_jenkinsfile_is_not(right: str, wrong: str) -> None:
    assert right in JENKINS
    with pytest.raises(UnexpectedInput):
        groovy.parse_groovy_content(JENKINS.replace(right, wrong, 1))


def test_the_jenkinsfile_has_the_sections_of_a_declarative_pipeline() -> None:
    nested: list[str] = []
    found = []
    for opened, _ in re.findall(r"(\w+)(?:\('\w+'\))? \{|(\})", JENKINS):
        if opened:
            nested.append(opened)
            found.append(" ".join(nested))
        else:
            nested.pop()
    assert nested == []
    assert found == [
        "pipeline",
        "pipeline agent",
        "pipeline environment",
        "pipeline stages",
        "pipeline stages stage",
        "pipeline stages stage steps",
        "pipeline post",
        "pipeline post always",
    ]


@pytest.mark.parametrize("system", ["github", "gitlab", "jenkins"])
def test_all_recipes_do_the_same(system: str) -> None:
    install, measure = list_commands(system)
    assert install == INSTALL
    assert measure.startswith(BASE)
    typed = re.findall(r"--boobench[\w-]*", measure)
    assert set(typed) <= set(DECLARED.names)


# --- run for real


class Runner:
    """A CI job's folder: a checkout, and a ``.venv`` that is this environment."""

    def __init__(self, bench: BenchFolder) -> None:
        self.bench = bench
        self.path = bench.path
        bench.write_suite(
            file="suites/smoke.boobench.yaml",
            grid={"prompt_tokens": [16], "output_tokens": [4]},
            samples=5,
            max_samples=10,
            policy="literal",
        )
        (self.path / "patient.py").write_text(PATIENT)
        (self.path / ".venv").symlink_to(sys.prefix)

    def run(self, command: str, **env: str) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join((str(self.path), *sys.path))
        addopts = f"{name_plugins(*PLUGINS)} -p patient"
        environment = {**os.environ, "PYTEST_ADDOPTS": addopts, "PYTHONPATH": paths, **env}
        shell = ["/bin/sh", "-ec", command]
        return subprocess.run(
            shell, check=False, cwd=self.path, env=environment, capture_output=True, text=True, timeout=120
        )

    def take_files(self) -> set[str]:
        """What the job left for the CI system; removed, as a fresh checkout would."""
        found = {path for path in self.path.iterdir() if path.name.startswith(("boobench.", "metrics."))}
        left = {path for path in found if not path.name.endswith(".yaml")}
        for path in left:
            path.unlink()
        return {path.name for path in left}


@pytest.fixture
def runner(bench: BenchFolder) -> Runner:
    return Runner(bench)


FILES = {
    "github": {"boobench.html", "boobench.json", "boobench.xml"},
    "gitlab": {"boobench.html", "boobench.xml", "metrics.txt"},
    "jenkins": {"boobench.html", "boobench.xml"},
}


def test_the_recipes_take_up_all_files_that_are_left() -> None:
    github, gitlab = yaml.safe_load(GITHUB), yaml.safe_load(GITLAB)
    (upload,) = (step for step in github["jobs"]["bench"]["steps"] if "upload-artifact" in step.get("uses", ""))
    assert set(upload["with"]["path"].split()) == FILES["github"]
    kept = gitlab["bench"]["artifacts"]
    assert {*kept["paths"], *kept["reports"].values()} == FILES["gitlab"]
    assert set(re.findall(r"(?:testResults|artifacts): '([^']*)'", JENKINS)) == FILES["jenkins"]


def join_recipes() -> str:
    """The command of all recipes in one: they differ only by the files that they ask for, as a test above holds."""
    extra = {word: None for system in FILES for word in list_commands(system)[1].removeprefix(BASE).split()}
    return " ".join((BASE, *extra))


def test_a_job_is_red_on_a_regression_and_leaves_its_files(runner: Runner) -> None:
    store = runner.path / "kept" / "store.db"
    first = runner.run(f"{join_recipes()} --boobench-save-baseline", BOOBENCH_STORE=str(store))
    assert first.returncode == 0, first.stdout
    runner.take_files()
    scale_baselines(runner.bench, 20.0, store=store)
    red = runner.run(join_recipes(), BOOBENCH_STORE=str(store))
    assert red.returncode == 1, red.stdout
    assert "below baseline main" in red.stdout
    page = (runner.path / "boobench.html").read_text(encoding="utf-8")
    assert "<h1>1 of 1 cell regressed</h1>" in page
    assert runner.take_files() == set().union(*FILES.values())


def test_a_job_gates_on_a_file_in_git_where_nothing_else_is_kept(runner: Runner) -> None:
    by_hand, _ = BY_HAND.splitlines()
    made = runner.run(f".venv/bin/{by_hand}")
    assert made.returncode == 0, made.stdout
    shutil.rmtree(runner.path / ".boobench")
    _, measure = list_commands("github")
    file = {"BOOBENCH_BASELINE_FILE": "boobench.baseline.yaml"}
    again = runner.run(f"{measure} --boobench-max-drop 99%", **file)
    assert again.returncode == 0, again.stdout
    assert "no baseline" not in again.stdout
    shutil.rmtree(runner.path / ".boobench")
    (runner.path / "boobench.baseline.yaml").unlink()
    lost = runner.run(measure, **file)
    assert lost.returncode == pytest.ExitCode.USAGE_ERROR
    assert "make it with --boobench-save-baseline" in lost.stderr
