"""``boobench notify``: what is printed and sent, once for each change; the URL is in no output."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from markdown_it import MarkdownIt

from pytest_boobench.cli import main
from pytest_boobench.record import Verdict
from pytest_boobench.store import Store
from tests.conftest import BenchFolder
from tests.fault_server import FaultServer, Peer
from tests.histories import judge_decode
from tests.making import make_cell
from tests.plugin.test_session import scale_baselines
from tests.stored import ELSEWHERE, FOUR, ONE, add_session, name_uid

SECRET = "T00AB12CD/B99ZZ88YY/xYzSecretOfTheHook42"


SLOW = judge_decode("regression", -0.152, note="engine b2, was b1")
FINE = judge_decode("pass", proven=True)


def add_nights(store: Store, *nights: tuple[Verdict, ...]) -> None:
    for day, verdicts in enumerate(nights):
        add_session(store, f"night {day}", (ONE, 50.0), (FOUR, 50.0), day=day, verdicts=verdicts)


class Receiver:
    """A webhook, and a forge whose issues it keeps."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status = status
        self.seen: list[tuple[str, str, dict[str, Any], str | None]] = []
        self.issues: list[dict[str, Any]] = []
        self.comments: list[dict[str, Any]] = []

    async def __call__(self, peer: Peer) -> None:
        request = peer.request
        self.seen.append((request.method, request.target, request.fields, request.headers.get("authorization")))
        if request.method == "GET" and re.search("/(comments|notes)[?]", request.target):
            await peer.answer(self.status, self.comments)
            return
        if request.method == "GET":
            closed = "state=closed" in request.target
            await peer.answer(self.status, [one for one in self.issues if (one["state"] == "closed") == closed])
            return
        if request.target.rstrip("/").endswith("/issues"):
            number = len(self.issues) + 1
            self.issues.append({**request.fields, "number": number, "iid": number, "state": "open"})
        elif request.method == "POST":
            self.comments.append(dict(request.fields))
        if request.method in {"PATCH", "PUT"}:
            self.issues[int(request.target.rsplit("/", 1)[1]) - 1]["state"] = "closed"
        await peer.answer(self.status, {})


def test_an_issue_for_a_change_and_no_second_one(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add_nights(store, FINE, SLOW)
    assert main(["notify"]) == 0
    first = capsys.readouterr().out
    assert first.splitlines()[:5] == [
        "# opened: rack-1 is slower: decode −15.2 %, 2 of 2 cells",
        "",
        "**opened: rack-1 is slower: decode −15.2 %, 2 of 2 cells**",
        "",
        "Beside the speed: engine b2, was b1.",
    ]
    assert main(["notify"]) == 0
    assert capsys.readouterr().out == first, "the same session says the same"
    assert "<h1>opened: rack-1 is slower" in MarkdownIt("commonmark").render(first)
    mark = re.search(r"<!-- boobench-alert \w{12} -->", first)
    assert mark
    add_session(store, "night 2", (ONE, 42.0), (FOUR, 42.0), day=2, verdicts=SLOW)
    assert main(["notify"]) == 0
    assert capsys.readouterr().out.startswith("# confirmed: rack-1 is slower")
    add_session(store, "night 3", (ONE, 42.0), (FOUR, 42.0), day=3, verdicts=SLOW)
    assert main(["notify"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    session = name_uid("session night 3")[:8]
    assert err == f"session {session} opened, confirmed and closed no alert; 1 alert open\n"
    assert main(["notify", "--open"]) == 0
    assert capsys.readouterr().out.split("  ")[1:] == [
        "confirmed",
        "rack-1 is slower: decode −15.2 %, 2 of 2 cells; since 2026-11-19 11:06 UTC\n",
    ]
    add_session(store, "night 4", (ONE, 50.0), (FOUR, 50.0), day=4, verdicts=FINE)
    assert main(["notify"]) == 0
    closed = capsys.readouterr().out
    assert closed.startswith("# closed: rack-1 was slower: all its cells are as the baseline again")
    assert mark[0] in closed
    assert main(["notify", "--session", name_uid("session night 1")[:8]]) == 0
    assert capsys.readouterr().out == first


def test_open_alerts_of_all_hosts_are_listed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add_nights(store, FINE, SLOW)
    add_session(store, "elsewhere", (ELSEWHERE, 50.0), day=2, verdicts=FINE)
    add_session(store, "elsewhere slow", (ELSEWHERE, 42.0), day=3, verdicts=SLOW)
    add_session(store, "a look of a soak", (make_cell(suite="soak"), 42.0), day=4)
    assert main(["notify", "--open"]) == 0
    assert [line.split("  ")[2].split()[0] for line in capsys.readouterr().out.splitlines()] == ["rack-1", "rack-2"]
    assert main(["notify"]) == 0
    assert capsys.readouterr().out.startswith("# opened: rack-2"), "not of the session without verdicts"


def test_an_alert_keeps_its_name_however_long_it_is_open(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """More nights than are read at first."""
    add_nights(store, FINE, *[SLOW] * 70)
    assert main(["notify", "--session", name_uid("session night 1")]) == 0
    opened = re.search(r"boobench-alert (\w+)", capsys.readouterr().out)
    add_session(store, "last", (ONE, 50.0), (FOUR, 50.0), day=80, verdicts=FINE)
    assert main(["notify"]) == 0
    closed = re.search(r"boobench-alert (\w+)", capsys.readouterr().out)
    assert opened
    assert closed
    assert opened[1] == closed[1]


def test_the_shapes_for_programs(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = make_cell(host="rack<1> & @all")
    add_session(store, "a", (hostile, 50.0), verdicts=FINE)
    add_session(store, "b", (hostile, 42.0), day=1, verdicts=SLOW)
    assert main(["notify", "--as", "webhook"]) == 0
    told = json.loads(capsys.readouterr().out)
    (alert,) = told["alerts"]
    assert (told["schema"], alert["step"], alert["direction"], alert["cause"]) == (
        1,
        "opened",
        "slower",
        "engine b2, was b1",
    )
    (cell,) = alert["cells"]
    assert (cell["cell"], cell["now"], cell["still"]) == ("qwen[pp64-tg8-c1]", pytest.approx(42.4), True)
    assert main(["notify", "--as", "slack"]) == 0
    text = json.loads(capsys.readouterr().out)["text"]
    assert text.splitlines()[0] == "*opened: rack&lt;1&gt; &amp; @all is slower: decode −15.2 %, 1 of 1 cell*"
    assert "• qwen[pp64-tg8-c1] decode 50.0 → 42.4 tok/s (−15.2 %)" in text
    assert main(["notify"]) == 0
    html = MarkdownIt("commonmark").render(capsys.readouterr().out)
    assert "<1>" not in html
    assert "@all" not in html


def test_the_cause_of_the_cell_measured_last_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add_nights(store, FINE)
    for place, (cell, cause) in enumerate([(ONE, "only decode fell"), (FOUR, "only cells with 4 lanes fell")]):
        verdicts = (replace(SLOW[0], cause=cause),)
        run = {"session": name_uid("session night 1")}
        add_session(store, f"part {place}", (cell, 42.0), day=1 + place / 100, verdicts=verdicts, run=run)
    assert main(["notify"]) == 0
    assert capsys.readouterr().out.splitlines()[4] == "Cause: only cells with 4 lanes fell."
    assert main(["notify", "--as", "webhook"]) == 0
    (alert,) = json.loads(capsys.readouterr().out)["alerts"]
    assert alert["cause"] == "only cells with 4 lanes fell"
    add_session(store, "night 2", (FOUR, 42.0), day=2, verdicts=SLOW)
    assert main(["notify"]) == 0
    assert "Beside the speed: engine b2, was b1." in capsys.readouterr().out, "that session found no cause"


def test_only_confirmed_ones_and_faster_ones(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add_nights(store, FINE, SLOW)
    assert main(["notify", "--confirmed"]) == 0
    assert capsys.readouterr().out == ""
    add_session(store, "night 2", (ONE, 60.0), day=2, verdicts=judge_decode("improvement", 0.2))
    assert main(["notify", "--confirmed"]) == 0
    assert main(["notify"]) == 0
    assert capsys.readouterr().out == "", "one cell is still slower"
    assert main(["notify", "--faster"]) == 0
    assert capsys.readouterr().out.startswith("# opened: rack-1 is faster: decode +20.0 %, 1 of 1 cell")


def test_a_webhook_gets_it_once_and_nobody_sees_the_url(
    store: Store, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    add_nights(store, FINE, SLOW)
    receiver = Receiver()
    with FaultServer({SECRET.rsplit("/", 1)[1]: receiver}) as server:
        monkeypatch.setenv("BOOBENCH_NOTIFY_TOKEN", "a-token-of-the-forge")
        assert main(["notify", "--to", f"{server.url}/services/{SECRET}", "--as", "slack"]) == 0
    out, err = capfd.readouterr()
    assert out == f"sent: 1 alert of session {name_uid('session night 1')[:8]}\n"
    ((method, _, body, token),) = receiver.seen
    assert (method, token) == ("POST", "Bearer a-token-of-the-forge")
    assert body["text"].startswith("*opened: rack-1 is slower")
    for part in SECRET.split("/"):
        assert part not in out + err + caplog.text


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("500 Internal Server Error", "not sent: the receiver answers 500, expected 200 to 299"),
        ("302 Found", "not sent: the receiver answers 302, expected 200 to 299"),
        (None, "not sent: the receiver cannot be reached; is the URL right?"),
    ],
)
def test_what_cannot_be_sent_is_one_sentence(
    store: Store, capfd: pytest.CaptureFixture[str], status: str | None, said: str
) -> None:
    add_nights(store, FINE, SLOW)
    with FaultServer({"hook": Receiver(status or "")}) as server:
        url = f"{server.url}/hook"
    if status is None:
        assert main(["notify", "--to", url]) == 1
    else:
        with FaultServer({"hook": Receiver(status)}) as server:
            assert main(["notify", "--to", f"{server.url}/hook"]) == 1
    assert capfd.readouterr().err == f"{said}\n"


def test_a_wrong_url_is_not_repeated(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add_nights(store, FINE, SLOW)
    assert main(["notify", "--to", f"htps://hooks.example.com/{SECRET}"]) == 2
    err = capsys.readouterr().err
    assert "expected a URL such as https://hooks.example.com/…; it is not shown, since it may be a secret" in err
    assert "xYzSecret" not in err


@pytest.mark.parametrize(
    ("path", "text", "close"),
    [
        ("/repos/me/bench/issues", "body", ("PATCH", "/repos/me/bench/issues/1")),
        ("/api/v4/projects/7/issues", "description", ("PUT", "/api/v4/projects/7/issues/1")),
    ],
)
def test_one_issue_opens_is_added_to_and_closes(
    store: Store, path: str, text: str, close: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    add_nights(store, FINE, SLOW)
    forge = Receiver()
    with FaultServer(dict.fromkeys(("issues", "comments", "notes", "1"), forge)) as server:
        url = f"{server.url}{path}"
        assert main(["notify", "--to", url]) == 0
        assert main(["notify", "--to", url]) == 0
        (issue,) = forge.issues
        assert issue["title"] == "rack-1 is slower: decode −15.2 %, 2 of 2 cells"
        assert "boobench-alert" in issue[text]
        add_session(store, "night 2", (ONE, 42.0), (FOUR, 42.0), day=2, verdicts=SLOW)
        assert main(["notify", "--to", url]) == 0
        assert main(["notify", "--to", url]) == 0, "and comments no second time"
        assert issue["state"] == "open"
        add_session(store, "night 3", (ONE, 50.0), (FOUR, 50.0), day=3, verdicts=FINE)
        assert main(["notify", "--to", url]) == 0
    assert forge.issues == [{**issue, "state": "closed"}]
    written = [(method, target.partition("?")[0]) for method, target, *_ in forge.seen if method != "GET"]
    comment = ("POST", f"{path}/1/{'comments' if text == 'body' else 'notes'}")
    assert written == [("POST", path), comment, comment, close]


def test_a_host_that_cannot_be_measured_has_one_alert(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """In all shapes, and one issue of a forge, until it is measured again."""

    def add_dead(name: str, day: int) -> None:
        gone = {"samples": (), "error": "rack-1: no answer from http://<i>:8080; is the server running?"}
        add_session(store, name, (ONE, 0.0), (FOUR, 0.0), day=day, **gone)

    def tell(*how: str) -> str:
        assert main(["notify", *how]) == 0
        return capsys.readouterr().out

    forge = Receiver()
    add_nights(store, FINE)
    add_dead("dead", 1)
    first = tell()
    said = "rack-1 cannot be measured: no answer from http&#58;&#8203;//&#60;i&#62;:8080; is the server running?"
    assert first.splitlines()[0] == f"# opened: {said}"
    assert "| no answer from http&#58;&#8203;//&#60;i&#62;:8080; is the server running? | 2 |" in first
    assert "the next session of its suites confirms it or closes it" in first
    (alert,) = json.loads(tell("--as", "webhook"))["alerts"]
    assert (alert["direction"], alert["cells"], alert["measured"], alert["ending"]) == ("unmeasured", [], 2, None)
    assert alert["troubles"] == [
        {"reason": "rack-1: no answer from http://<i>:8080; is the server running?", "cells": 2}
    ]
    assert json.loads(tell("--as", "slack"))["text"].splitlines()[:2] == [
        "*opened: rack-1 cannot be measured: no answer from http://&lt;i&gt;:8080; is the server running?*",
        "• no answer from http://&lt;i&gt;:8080; is the server running?: 2 cells",
    ]
    with FaultServer(dict.fromkeys(("issues", "comments", "1"), forge)) as server:
        url = f"{server.url}/repos/me/bench/issues"
        tell("--to", url)
        for day in (2, 3):
            add_dead(f"dead {day}", day)
            tell("--to", url)
        assert tell() == "", "told once"
        assert "  confirmed  rack-1 cannot be measured: no answer" in tell("--open")
        add_session(store, "alive", (ONE, 50.0), day=4, verdicts=FINE)
        assert tell().startswith("# closed: rack-1 could not be measured: it is measured again\n")
        tell("--to", url)
    (issue,) = forge.issues
    assert issue["title"] == "rack-1 cannot be measured: no answer from http://<i>:8080; is the server running?"
    assert issue["state"] == "closed"
    assert [re.findall("(confirmed|closed): rack-1", one["body"]) for one in forge.comments] == [
        ["confirmed"],
        ["closed"],
    ]


def test_a_long_reason_fits_a_title(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add_session(store, "a", (ONE, 0.0), samples=(), error=f"rack-1: every request failed: {'x' * 500}")
    assert main(["notify", "--open"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "cannot be measured: every request failed: xxx" in line
    assert len(line) < 260
    assert "…; since" in line


def test_a_host_that_is_down_is_told_by_a_whole_session(bench: BenchFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with FaultServer({}) as server:
        bench.write_hosts(rack={"server": "llama-server", "url": server.url})
    bench.write_suite(hosts=["rack"])
    receiver = Receiver()
    with FaultServer({"hook": receiver}) as server:
        for _ in range(2):
            bench.run("--boobench-wait=0", "--boobench-notify", f"{server.url}/hook")
    told = [alert for _, _, body, _ in receiver.seen for alert in body["alerts"]]
    assert [(alert["step"], alert["measured"]) for alert in told] == [("opened", 2), ("confirmed", 2)]
    assert told[0]["title"].startswith("opened: rack cannot be measured: no answer from http://")
    capsys.readouterr()
    assert main(["notify", "--open"]) == 0
    assert "confirmed  rack cannot be measured" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["/repos/me/bench/issues", "/api/v4/projects/7/issues"])
def test_an_old_session_opens_no_issue_for_an_alert_that_is_over(
    store: Store, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add_nights(store, FINE, SLOW, SLOW, FINE)
    old, ever = Receiver(), Receiver()
    names = ("issues", "comments", "notes", "1")
    with FaultServer(dict.fromkeys(names, old)) as server:
        for night in (1, 2):
            capsys.readouterr()
            uid = name_uid(f"session night {night}")
            assert main(["notify", "--session", uid, "--to", f"{server.url}{path}"]) == 0
            assert capsys.readouterr().out == f"sent: 1 alert of session {uid[:8]}; 1 closed since then: no new issue\n"
    assert old.issues == []
    with FaultServer(dict.fromkeys(names, ever)) as server:
        url = f"{server.url}{path}"
        ever.issues.append({"state": "closed", "number": 1, "iid": 1, "body": "of a person", "description": "other"})
        add_session(store, "slow again", (ONE, 42.0), (FOUR, 42.0), day=4, verdicts=SLOW)
        assert main(["notify", "--to", url]) == 0
        assert len(ever.issues) == 2, "another alert than those that are over"
        ever.issues[1]["state"] = "closed"  # by a person
        assert main(["notify", "--to", url]) == 0
        assert (len(ever.issues), ever.comments) == (2, [])


def test_what_confirms_an_alert_is_added_to_an_issue_that_a_person_closed(store: Store) -> None:
    add_nights(store, FINE, SLOW)
    forge = Receiver()
    with FaultServer(dict.fromkeys(("issues", "comments"), forge)) as server:
        url = f"{server.url}/repos/me/bench/issues"
        assert main(["notify", "--to", url]) == 0
        forge.issues[0]["state"] = "closed"
        add_session(store, "night 2", (ONE, 42.0), (FOUR, 42.0), day=2, verdicts=SLOW)
        for _ in range(2):
            assert main(["notify", "--to", url]) == 0
    (issue,), (comment,) = forge.issues, forge.comments
    assert issue["state"] == "closed"
    assert "confirmed: rack-1 is slower" in comment["body"]


def test_a_session_sends_what_it_changed_and_ends_as_ever(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write_suite(gate={"decode_tok_s": {"max_drop": "10%"}})
    receiver = Receiver()
    with FaultServer({"hook-A1B2C3D4": receiver}) as server:
        url = f"{server.url}/hook-A1B2C3D4"
        bench.run("--boobench-save-baseline").assert_outcomes(passed=2)
        scale_baselines(bench, 200.0)
        result = bench.run("--boobench-notify", url, "--boobench-policy=literal")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines("boobench sent: 1 alert")
        ((_, _, body, _),) = receiver.seen
        assert body["alerts"][0]["title"].startswith("opened: llama is slower: decode −")
    monkeypatch.setenv("BOOBENCH_NOTIFY", url)
    scale_baselines(bench, 1e-4)
    gone = bench.run("--boobench-policy=literal")
    assert gone.ret == pytest.ExitCode.OK
    gone.stdout.fnmatch_lines("boobench alerts: not sent: the receiver cannot be reached*")
    wrong = bench.run("--boobench-notify=hook-A1B2C3D4")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    shown = "\n".join([*result.outlines, *gone.outlines, *wrong.errlines, *wrong.outlines])
    assert "A1B2C3D4" not in shown
