"""Runs that the page starts: real children of pytest, their events, their ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_boobench.facts import ForeignRequest, Sighting
from pytest_boobench.hosts.quiet import Manners, _refusal
from pytest_boobench.page.run_file import RunAbout, RunFile, find_refused, follow_cell
from pytest_boobench.page.run_keeper import EXIT, KeptOutput
from tests.page.conftest import write_suite
from tests.page.serving import ServedPage, serve


def test_tree_run_history_and_baseline(page: ServedPage) -> None:
    """One way through the rooms: few sessions, for each is a process."""
    tree = page.get("/api/tree")
    (suite,) = tree["suites"]
    cells = suite["hosts"][0]["models"][0]["cells"]
    assert [cell["id"] for cell in cells] == ["pp24-tg4-c1", "pp32-tg4-c1"]
    assert [cell["last"] for cell in cells] == [None, None]
    assert page.get("/api/history")["courses"] == []
    dry = page.post("/api/runs", {"dry": True, "node_ids": [cells[0]["node_id"]]})
    assert dry == {"command": "pytest --boobench 'smoke.boobench.yaml::llama::tiny-chat[pp24-tg4-c1]'"}
    started = page.post("/api/runs", {"save_baseline": "replace"}, 201)
    assert started["command"] == "pytest --boobench --boobench-save-baseline smoke.boobench.yaml"
    busy = page.post("/api/runs", {}, 409)
    assert busy["busy"] == [{"host": "llama", "who": [f"the run {started['id']} of this page"]}]
    talk = {"host": "llama", "model": "tiny-chat", "messages": [{"role": "user", "content": "a"}]}
    assert [kind for kind, _, _ in page.stream("POST", "/api/try", talk)] == ["refused"]
    events = list(page.stream("GET", f"/api/runs/{started['id']}/events"))
    ended = events[-1][1]
    assert (ended["state"], ended["exit_word"], ended["done"], ended["red"]) == ("ended", "passed", 2, [])
    assert events[0][1]["replay"]
    names = [name for _, _, name in events[1:]]
    numbers = [int(name.partition("-")[2]) for name in names]
    assert numbers == sorted(set(numbers))
    assert "2 passed" in "".join(data["text"] for kind, data, _ in events if kind == "output")
    last = {data["node_id"]: data for kind, data, _ in events if kind == "progress"}
    assert {data["outcome"] for data in last.values()} == {"no baseline"}
    kinds = {span["kind"] for data in last.values() for lane in data["lanes"] for span in lane["spans"]}
    assert {"prefill", "warm-up"} <= kinds
    later = list(page.stream("GET", f"/api/runs/{started['id']}/events", **{"Last-Event-ID": names[-2]}))
    assert [kind for kind, _, _ in later] == ["end"]
    newest = page.get("/api/tree")["suites"][0]["hosts"][0]["models"][0]["cells"]
    assert {cell["last"]["outcome"] for cell in newest} == {"no baseline"}
    assert all(cell["estimate_s"] > 0 for cell in newest)
    assert page.get("/api/tree?k=pp24")["suites"][0]["hosts"][0]["models"][0]["cells"][1]["selected"] is False
    course = page.get("/api/history?metric=decode_tok_s&cell=pp24")["courses"][0]
    (point,) = course["points"]
    assert course["baseline"]["name"] == "main"
    assert course["baseline"]["level"] == point["value"]
    assert page.post("/api/baselines/clear", {"name": "main", "key": course["key"], "reason": "noise"})["went"] == 1
    wanted = {"measurement": point["measurement"], "name": "main", "reason": "by hand"}
    assert page.post("/api/baselines", wanted, 201)["came"] == 1
    page.post("/api/baselines", {**wanted, "reason": "  "}, 422)
    page.post("/api/baselines", {**wanted, "measurement": 10**9}, 404)
    (session,) = page.get("/api/sessions")["sessions"]
    assert session["cells"] == 2
    rows = page.get(f"/api/compare?a={session['session']}&b={session['session']}")["rows"]
    assert {row["change"] for row in rows} == {0.0}
    assert page.client.get("/api/compare?a=nothing&b=").status_code == 404
    report = page.client.get("/api/report")
    assert "sha256-" in report.headers["content-security-policy"]


def test_beside_a_run_of_a_terminal_nobody_tries_a_model(page: ServedPage, folder: Path) -> None:
    write_suite(folder, "long", samples=400, output_tokens=64)
    command = [sys.executable, "-m", "pytest", "--boobench", "--boobench-progress=p.jsonl", "long.boobench.yaml"]
    talk = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 4}
    side = {"host": "llama", "model": "tiny-chat"}
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: '"measuring"' in read(folder / "p.jsonl"))
        for path, body in {"/api/try": {**side, **talk}, "/api/ab": {"sides": [side, side], **talk}}.items():
            refused = list(page.stream("POST", path, body))
            assert {kind for kind, _, _ in refused} == {"refused"}
            assert refused[0][1]["who"] == ["another session of pytest --boobench on this machine"]
    finally:
        run.send_signal(signal.SIGINT)
        said, _ = run.communicate()
    assert run.returncode == pytest.ExitCode.INTERRUPTED, said


def wait_until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_stopped_run_leaves_what_is_finished_and_a_killed_server_its_run(folder: Path) -> None:
    write_suite(folder, "long", samples=400, output_tokens=64)
    with serve(folder) as page:
        long = [cell["node_id"] for cell in list_cells(page) if "long" in cell["node_id"]]
        run_id = page.post("/api/runs", {"node_ids": long}, 201)["id"]
        wait_for(page, run_id, "measuring")
        with serve(folder) as second:  # as after a kill of the first: it knows the run by its files only
            assert second.get(f"/api/runs/{run_id}")["state"] == "running"
            second.server.runs.runs.clear()  # it shall not end the first one's run
        stopped = page.post(f"/api/runs/{run_id}/stop", {"how": "interrupt"})
        assert stopped["state"] == "stopping"
        ended = page.follow(run_id)
        assert (ended["state"], ended["exit_code"], ended["exit_word"]) == ("ended", 2, "interrupted")
    with serve(folder) as page:
        assert page.get(f"/api/runs/{run_id}")["exit_word"] == "interrupted"


def test_a_dead_host_is_red_and_an_ended_server_leaves_no_child(folder: Path) -> None:
    write_suite(folder, "gone", samples=2, host="dead")
    write_suite(folder, "long", samples=400, output_tokens=64)
    with serve(folder) as page:
        names = {"gone": [], "long": []}  # type: dict[str, list[str]]
        for cell in list_cells(page):
            if (name := cell["node_id"].partition(".")[0]) in names:
                names[name].append(cell["node_id"])
        ended = page.run(node_ids=names["gone"])
        assert (ended["exit_word"], sorted(ended["red"])) == ("failed", sorted(names["gone"]))
        sentences = [cell["sentence"] for cell in page.get(f"/api/runs/{ended['id']}")["cells"]]
        assert all("dead: " in sentence for sentence in sentences)
        run_id = page.post("/api/runs", {"node_ids": names["long"]}, 201)["id"]
        wait_for(page, run_id, "measuring")
        pid = page.server.runs.get(run_id).about.pid
    assert not page.server.runs.get(run_id).about.is_alive()
    assert not [one for one in psutil.pids() if is_in_group(one, pid)]


def is_in_group(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except ProcessLookupError:
        return False


def list_cells(page: ServedPage) -> list[dict[str, Any]]:
    suites = page.get("/api/tree")["suites"]
    return [cell for suite in suites for host in suite["hosts"] for model in host["models"] for cell in model["cells"]]


def wait_for(page: ServedPage, run_id: str, state: str) -> None:
    end = time.monotonic() + 60
    while all(cell["state"] != state for cell in page.get(f"/api/runs/{run_id}")["cells"]):
        assert page.get(f"/api/runs/{run_id}")["state"] != "ended"
        assert time.monotonic() < end
        time.sleep(0.1)


# --- the files of a run


def make_run(folder: Path, **changed: Any) -> RunFile:
    fields = {"id": "r", "command": "", "started_at": 100.0, "hosts": ("llama",), "estimates_s": {"n": 3.0}}
    return RunFile(RunAbout(**{**fields, **changed}), folder)


def test_output_is_text_without_escapes_and_secrets(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_bytes(b"\x1b[31mred\x1b[0m <script>\nhalf")
    (tmp_path / EXIT).write_text('{"exit_code": 1, "ended_at": 200.0}')
    run = make_run(tmp_path)
    assert run.poll()
    events = run.list_events(0)
    assert [data["text"] for _, kind, data in events if kind == "output"] == ["red <script>\nhalf"]
    assert run.describe().exit_word == "failed"


def test_a_run_whose_keeper_was_killed_has_ended(tmp_path: Path) -> None:
    run = make_run(tmp_path, pid=2**22 + 1)
    assert run.poll()
    assert (run.describe().exit_word, run.describe().exit_code) == ("killed", None)


def test_another_server_tells_a_run_from_its_beginning(tmp_path: Path) -> None:
    """It reads the same files in other pieces, so that a number of the first one means nothing to it."""
    (tmp_path / "output.log").write_text("a\nb\n")
    first, second = (make_run(tmp_path, pid=os.getpid()) for _ in range(2))
    first.poll()
    second.poll()
    name = first.name_event(first.sequence)
    assert (first.find_event(name), second.find_event(name)) == (first.sequence, 0)
    assert [first.find_event(wrong) for wrong in ("", "7", f"{first.series}-x", f"{first.series}-99")] == [0] * 4


def test_broken_lines_of_progress_are_left_out(tmp_path: Path) -> None:
    line = {"node_id": "n", "suite": "s", "host": "h", "model": "m", "cell": "c", "state": "loading", "at": 101.0}
    lines = ["{", "[]", json.dumps({"run": "u"}), json.dumps({**line, "run": "u"}), '{"half']
    (tmp_path / "progress.jsonl").write_text("\n".join(lines))
    run = make_run(tmp_path, pid=os.getpid())
    run.poll()
    assert list(run.cells) == ["n"]
    assert run.session == "u"


def test_spans_are_those_of_the_requests() -> None:
    told = {"node_id": "n", "suite": "s", "host": "h", "model": "m", "cell": "c"}
    waiting = follow_cell(None, {**told, "state": "waiting", "at": 101.0}, 100.0)
    request = {"phase": "measure", "lane": 1, "started_at": 103.0, "ttft_ms": 500, "ttfo_ms": 750, "e2e_ms": 2000}
    silent = {"phase": "measure", "lane": 2, "started_at": 103.0, "ttft_ms": None, "e2e_ms": None}
    measuring = {**told, "state": "measuring", "at": 102.0, "requests": [request, silent]}
    lanes = follow_cell(waiting, measuring, 100.0).lanes
    spans = {lane.lane: [(span.kind, span.from_s, span.to_s) for span in lane.spans] for lane in lanes}
    assert spans == {
        0: [("waiting", 1.0, 2.0)],
        1: [("prefill", 3.0, 3.5), ("reasoning", 3.5, 3.75), ("decode", 3.75, 5.0)],
    }


def test_who_refused_is_read_from_the_refusal() -> None:
    requests = (ForeignRequest(id="7"), ForeignRequest(id="8"))
    text = _refusal("rack-1", Sighting(known=True, in_flight=requests), [], Manners())
    (refused,) = find_refused([text])
    assert refused.host == "rack-1"
    assert refused.who == tuple(dict.fromkeys(map(str, requests)))
    assert find_refused(["decode 12 % below"]) == ()


def test_long_output_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    output = KeptOutput(tmp_path / "output.log")
    output.write(b"begin\n" + b"x" * 4_000_000)
    output.write(b"\nend\n")
    output.close()
    kept = (tmp_path / "output.log").read_bytes()
    assert kept.startswith(b"begin\n")
    assert kept.endswith(b"\nend\n")
    assert len(kept) < 2_500_000
    assert b"bytes left out" in kept


def test_the_signals_are_those_of_the_route() -> None:
    from pytest_boobench.page.app import _SIGNALS

    assert _SIGNALS == {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM}
