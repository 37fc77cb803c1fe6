"""``start`` of a host and ``launch`` of a suite: what they come to, and what is said of bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_boobench import suite
from pytest_boobench.errors import DocumentError, HostError
from pytest_boobench.hosts import inventory
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.hosts.start_fields import fill, find_placeholders
from pytest_boobench.suite.cell import Cell, Suite

COMMAND = '[bin/llama-server, -m, "{model_file}", --port, "{port}", -ngl, "{ngl}", -ctk, "{kv}", --temp, 0.10]'
HOSTS = f"""\
hosts:
  lab:
    server: llama-server
    start:
      command: {COMMAND}
      env: {{LEVEL: "{{ngl}}"}}
      ready: 2m
    files: {{big: /models/big.gguf, small: small.gguf}}
  two:
    start:
      command:
        old: [old, "{{port}}", "{{{{port}}}}", '{{"a": 1}}']
        new: [new, "{{port}}", "{{flash}}"]
  rack: {{url: "http://rack"}}
"""
SUITE = """\
suite: s
hosts: [lab]
models: [big]
grid: {prompt_tokens: 8, output_tokens: [1, 2]}
launch: {ngl: 99, kv: [f16, q8_0]}
"""


def read_hosts(folder: Path, text: str = HOSTS) -> inventory.Inventory:
    path = folder / "hosts.yaml"
    path.write_text(text)
    return inventory.load(path, display="hosts.yaml", env={})


def read_suite(folder: Path, text: str = SUITE) -> Suite:
    hosts = read_hosts(folder)
    path = folder / "s.boobench.yaml"
    path.write_text(text)
    return suite.load(path, display="s.yaml", known_hosts=hosts.names, hosts_file="hosts.yaml", starts=hosts.starts)


def get(folder: Path, name: str) -> Host:
    return read_hosts(folder).get(name)


def combine(folder: Path, name: str, model: str, **launch: str) -> tuple[list[str], dict[str, str]]:
    start = get(folder, name).start
    assert start is not None
    return start.combine(model, launch).fill(8080)


def test_placeholders() -> None:
    assert find_placeholders(["{a} {{b}} {1} {} {c_d}", '{"e": {f}}']) == {"a", "c_d", "f"}
    assert fill('{a} {{b}} {"x": {a}}', {"a": "1"}) == '1 {b} {"x": 1}'


def test_the_words_are_passed_as_they_are_written(tmp_path: Path) -> None:
    words, env = combine(tmp_path, "lab", "small", ngl="99", kv="f16")
    assert words == [
        *("bin/llama-server", "-m", str(tmp_path / "small.gguf"), "--port", "8080"),
        *("-ngl", "99", "-ctk", "f16", "--temp", "0.10"),
    ]
    assert env == {"LEVEL": "99"}
    assert combine(tmp_path, "lab", "big", ngl="0", kv="f16")[0][2] == "/models/big.gguf"


def test_a_build_picks_the_command(tmp_path: Path) -> None:
    assert combine(tmp_path, "two", "m", build="old")[0] == ["old", "8080", "{port}", '{"a": 1}']
    assert combine(tmp_path, "two", "m", build="new", flash="on")[0] == ["new", "8080", "on"]


@pytest.mark.parametrize(
    ("name", "model", "launch", "said"),
    [
        ("lab", "big", {"ngl": "1"}, "hosts.yaml:5: the command has no value for {kv}; write it under launch"),
        ("lab", "x", {"ngl": "1", "kv": "a"}, "hosts.yaml:5: the command has no value for {model_file}"),
        ("two", "m", {"build": "newer"}, "hosts.yaml:11: no command 'newer'; did you mean 'new'?"),
    ],
)
def test_cells_that_a_hook_made_may_lack_values(
    tmp_path: Path, name: str, model: str, launch: dict[str, str], said: str
) -> None:
    with pytest.raises(HostError) as caught:
        combine(tmp_path, name, model, **launch)
    assert str(caught.value).startswith(said)


def test_what_shares_a_server(tmp_path: Path) -> None:
    lab, two = get(tmp_path, "lab").start, get(tmp_path, "two").start
    assert lab is not None
    assert two is not None
    values = {"ngl": "1", "kv": "f16"}
    assert lab.combine("big", values).key != lab.combine("small", values).key
    assert two.combine("a", {"build": "old", "flash": "on"}).key == two.combine("b", {"build": "old"}).key
    assert str(lab.combine("big", values)) == "ngl=1, kv=f16, model=big"


def test_a_started_host_is_this_machine(tmp_path: Path) -> None:
    lab = get(tmp_path, "lab")
    assert (lab.ours, lab.local, lab.exclusive) == (True, True, get(tmp_path, "embedded").exclusive)
    assert lab.exclusive_among_machines("here") is None
    assert lab.start is not None
    assert lab.start.ready_s == 120


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("{start: {}}", "2: hosts.a.start.command: is missing; expected a list of words"),
        ("{start: {command: []}}", "2: hosts.a.start.command: expected a list of words"),
        ("{start: {command: llama-server --port 1}}", "2: hosts.a.start.command: expected a list of words"),
        ("{start: {command: [a]}}", "2: hosts.a.start.command: lacks {port}; the plugin chooses the port"),
        (
            "{start: {command: [a, '{port}', true]}}",
            "2: hosts.a.start.command[2]: expected a text or a number, got true",
        ),
        ("{start: {command: {b: [a]}}}", "2: hosts.a.start.command.b: lacks {port}"),
        ("{start: {command: {b: x}}}", "2: hosts.a.start.command.b: expected the words of the command 'b' as a list"),
        ("{start: {command: [a, '{port}', '{model_file}']}}", "2: hosts.a.start.command: uses {model_file}; write"),
        ("{start: {command: [a, '{port}'], env: [x]}}", "2: hosts.a.start.env: expected a mapping of variables"),
        ("{start: {command: [a, '{port}'], env: {X: [1]}}}", "2: hosts.a.start.env.X: expected a text or a number"),
        ("{start: {command: [a, '{port}'], ready: soon}}", "2: hosts.a.start.ready: expected a time"),
        ("{start: {command: [a, '{port}'], wait: 1}}", "2: hosts.a.start.wait: unknown key"),
        ("{start: {command: [a, '{port}']}, url: http://a}", "2: hosts.a.url: the plugin starts this host"),
        (
            "{start: {command: [a, '{port}']}, server: embedded}",
            "2: hosts.a.start: the embedded server is started by us",
        ),
        ("{url: http://a, files: {m: x}}", "2: hosts.a.files: only a host that the plugin starts has files"),
    ],
)
def test_bad_starts(tmp_path: Path, host: str, said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_hosts(tmp_path, f"hosts:\n  a: {host}\n")
    first, *more = [line.removeprefix("hosts.yaml:") for line in str(caught.value).splitlines()]
    assert first.startswith(said)
    assert not more


def ids(cells: tuple[Cell, ...]) -> list[str]:
    return [cell.id for cell in cells]


def test_launch_makes_axes(tmp_path: Path) -> None:
    cells = read_suite(tmp_path).cells
    assert ids(cells) == ["pp8-tg1-c1-kvf16", "pp8-tg2-c1-kvf16", "pp8-tg1-c1-kvq8_0", "pp8-tg2-c1-kvq8_0"]
    assert [cell.launch["kv"] for cell in cells] == ["f16", "f16", "q8_0", "q8_0"]
    assert {cell.launch["ngl"] for cell in cells} == {"99"}
    assert cells[0].identity["launch"] == {"ngl": "99", "kv": "f16"}
    assert len({cell.key for cell in cells}) == 4


def test_a_suite_without_launch_keeps_its_identity(tmp_path: Path) -> None:
    (cell, _) = read_suite(tmp_path, SUITE.replace("[lab]", "[rack]").partition("launch")[0]).cells
    assert "launch" not in cell.identity


def test_paths_are_short_in_ids(tmp_path: Path) -> None:
    cells = read_suite(tmp_path, SUITE.replace("[f16, q8_0]", "[/a/x.gguf, /b/x.gguf, 'a::b']")).cells
    assert ids(cells)[::2] == ["pp8-tg1-c1-kva/x", "pp8-tg1-c1-kvb/x", "pp8-tg1-c1-kva:b"]


def test_overrides_pick_values_of_launch(tmp_path: Path) -> None:
    cells = read_suite(tmp_path, SUITE + "overrides: [{where: {kv: q8_0, ngl: 99}, samples: 3}]\n").cells
    assert [cell.plan.samples for cell in cells] == [10, 10, 3, 3]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ngl: 99, ": ""}, "5: launch.ngl: lab needs a value of {ngl} (hosts.yaml:5); write ngl: and the value"),
        ({"ngl: 99": "ngl: 99, nlg: 1"}, "5: launch.nlg: no command uses {nlg}; did you mean 'ngl'?"),
        ({"[lab]": "[rack]"}, "5: launch: the host 'rack' is not started by the plugin; leave launch out"),
        ({"[lab]": "[lab, rack]"}, "5: launch: the host 'rack' is not started by the plugin"),
        ({"[big]": "[bug]"}, "3: models[0]: lab has no file of it (hosts.yaml:5); did you mean 'big'?"),
        ({"[lab]": "[two]", "ngl: 99, kv: [f16, q8_0]": "build: odd"}, "5: launch.build: two has no build 'odd'"),
        ({"[lab]": "[two]", "ngl: 99, kv: [f16, q8_0]": "flash: 1"}, "5: launch.build: two has several builds"),
        ({"[lab]": "[two]", "ngl: 99, kv: [f16, q8_0]": "build: new"}, "5: launch.flash: two needs a value of {flash}"),
        ({"ngl: 99": "ngl: 99, port: 1"}, "5: launch.port: the plugin fills it; leave it out"),
        ({"ngl: 99": "ngl: 99, temperature: 1"}, "5: launch.temperature: "),
        ({"ngl: 99": "ngl: true"}, "5: launch.ngl: expected a text or a number, got true; write it in quotes"),
        ({"ngl: 99": "ngl: []"}, "5: launch.ngl: expected at least one item, got an empty list"),
        ({"[f16, q8_0]": "[f16, f16]"}, "5: launch.kv[1]: f16 stands twice; keep one of them"),
        ({"{ngl: 99, kv: [f16, q8_0]}": "fast"}, "5: launch: expected a mapping such as kv: [f16, q8_0], got 'fast'"),
        ({"launch:": "overrides: [{where: {kv: q4}, samples: 2}]\nlaunch:"}, "5: overrides[0].where.kv: picks no cell"),
    ],
)  # fmt: skip
def test_bad_launches(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    text = SUITE
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(DocumentError) as caught:
        read_suite(tmp_path, text)
    assert any(line.removeprefix("s.yaml:").startswith(said) for line in str(caught.value).splitlines()), caught.value
