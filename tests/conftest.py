"""What the tests share: a real llama.cpp server for the whole run, and a bench folder that pytest is run over."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import hypothesis.strategies  # noqa: F401
import pytest
import yaml

from pytest_boobench import untrusted
from pytest_boobench.hosts.embedded import EmbeddedServer, EmbeddedSettings, start
from pytest_boobench.store import Store
from tests.forking import ForkedWorker, run_pytest
from tests.imported import KNOWN
from tests.patient import be_patient

CHECKOUT = Path(__file__).parent.parent
os.environ.pop("COLUMNS", None)  # readline sets it in xdist's workers; sessions inside of tests would wrap their lines
LIGHT = EmbeddedSettings(layers=1, width=256, feed_forward=256, slots=4)
"""Fast enough that a cell takes milliseconds; where speed itself is tested, heavier ones are used."""


def name_plugins(*names: str) -> str:
    """Options for a session that loads these plugins of the machine, by their entry points' names, and no others."""
    return " ".join(["--disable-plugin-autoload", *(f"-p {name}" for name in names)])


PLUGINS = ("boobench", "xdist", "benchmark")
"""What a session inside a test loads; a test that needs another one names its module."""


def _stamp(path: Path) -> float | None:
    return path.stat().st_mtime if path.exists() else None


@pytest.fixture(scope="session", autouse=True)
def _users_store_is_left_alone() -> Iterator[None]:
    store = CHECKOUT / ".boobench" / "store.db"
    before = _stamp(store)
    yield
    assert _stamp(store) == before, f"a test wrote to {store}: give its pytest run a rootdir of its own"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest-benchmark would take a session inside a worker's process for the worker's own
    others = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "GITHUB_STEP_SUMMARY", "PYTEST_XDIST_WORKER")
    for name in [name for name in os.environ if name.startswith("BOOBENCH_") or name in others]:
        monkeypatch.delenv(name)
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")  # which forgets the outer options first
        monkeypatch.setenv("PYTEST_ADDOPTS", name_plugins(*PLUGINS))
        monkeypatch.setattr(metadata, "distributions", lambda **_: iter(KNOWN))


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "_SECRETS", untrusted._Secrets())


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A real llama.cpp server that lives as long as the tests."""
    with start(LIGHT, cache=tmp_path_factory.mktemp("models")) as server:
        yield server


PATIENT_COMMAND = (
    sys.executable,
    "-c",
    "import sys; from tests.patient import be_patient; be_patient(setattr); "
    "from pytest_boobench.cli import main; sys.exit(main())",
)
"""``boobench`` as a process of its own that holds no busy machine against what it measures."""
PATIENT = (CHECKOUT / "tests" / "patient.py").read_text(encoding="utf-8")
"""A plugin for sessions apart, as text: it lies in a folder that is on their import path."""


class BenchFolder:
    """A folder with suites and a hosts file, and pytest run over it."""

    def __init__(self, pytester: pytest.Pytester, url: str) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.hosts: dict[str, Mapping[str, object]] = {"llama": {"server": "llama-server", "url": url, "shared": False}}
        self.write_hosts()
        pytester.makeini("[pytest]\nfilterwarnings = error\nboobench_block_gap = 0s\nboobench_quiet = 0s\n")

    def write_hosts(self, **more: Mapping[str, object]) -> None:
        self.hosts |= more
        (self.path / "boobench.hosts.yaml").write_text(yaml.safe_dump({"hosts": dict(self.hosts)}), encoding="utf-8")

    def write_suite(self, name: str = "smoke", file: str | None = None, **changed: object) -> Path:
        """A suite of two small cells, but for what is said otherwise; None leaves a field out."""
        fields: dict[str, object] = {
            "suite": name,
            "hosts": ["llama"],
            "models": ["tiny-chat"],
            "grid": {"prompt_tokens": [16, 32], "output_tokens": [4]},
            "warmup": 1,
            "samples": 2,
            **changed,
        }
        path = self.path / (file or f"{name}.boobench.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        said = {key: value for key, value in fields.items() if value is not None}
        path.write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
        return path

    def run(self, *args: str) -> pytest.RunResult:
        """``pytest --boobench …`` in this process: fast, and its code counts as covered."""
        return self.pytester.runpytest_inprocess("--boobench", "-p", "no:cacheprovider", *args)

    def run_workers(self, *args: str) -> pytest.RunResult:
        """The same with pytest-xdist: the controller in this process, its workers (``-n``) in their own."""
        return self.run("-p", "tests.patient", *args)

    def run_apart(self, *args: str) -> pytest.RunResult:
        """The same in a process of its own, as everything about process ends and other plugins needs it."""
        return run_pytest([*self.prepare_apart(), *args], self.path, self.environ)

    def run_fresh(self, *args: str) -> pytest.RunResult:
        """The same in a Python that has imported nothing yet: a second of processor."""
        return self.pytester.runpytest_subprocess(*self.prepare_apart(), *args)

    @property
    def environ(self) -> Mapping[str, str]:
        """Of a process apart: this folder is on its import path."""
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(self.path), os.environ.get("PYTHONPATH", "")])}

    def prepare_apart(self) -> list[str]:
        """The arguments that every session apart has; this folder must be on its import path."""
        (self.path / "patient.py").write_text(PATIENT)
        return ["--boobench", "-p", "patient"]


@pytest.fixture
def patience(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late client, or a machine that was busy before or is now, is not held against cells; locks are the test's own.

    For all that measures in a test's process and is not about just that. Other processes load ``tests.patient``.
    """
    be_patient(monkeypatch.setattr, tmp_path_factory.mktemp("locks"))


@pytest.fixture
def bench(pytester: pytest.Pytester, llama: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> BenchFolder:
    """An empty bench folder whose host ``llama`` is the tests' server, with ``patience``."""
    be_patient(monkeypatch.setattr, pytester.path)
    monkeypatch.setattr("execnet.gateway_io.Popen2IOMaster", ForkedWorker)
    return BenchFolder(pytester, llama.url)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store of an empty project that the command stands in."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    with Store.open(str(tmp_path / ".boobench" / "store.db")) as opened:
        yield opened
