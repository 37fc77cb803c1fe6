"""A server that answers the page as its contract says, with data that a test knows; the real one is in test_front_real.

It serves the page's own files under the real Content-Security-Policy, so that a browser blocks here what it blocks there.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.page.scripted_data import HOSTS, SAMPLING, make_history, make_tree

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "json": "application/json"}
TOKEN = "once"
Event = tuple[str, Mapping[str, Any]]


def read_asset(path: str) -> bytes:
    """Of the page, or of the report below ``report/``."""
    room, name = ("reports.html", path[7:]) if path.startswith("report/") else ("page", path)
    return files(f"pytest_boobench.{room}").joinpath("assets").joinpath(name).read_bytes()


@dataclass
class Script:
    """What the server says, and what it was asked."""

    tree: dict[str, Any] = field(default_factory=make_tree)
    history: dict[str, Any] = field(default_factory=make_history)
    hosts: list[dict[str, Any]] = field(default_factory=lambda: HOSTS)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    """Of each run, from its beginning on."""
    talk: list[Event] = field(default_factory=list)
    """What a model answers."""
    start: Mapping[str, Any] | None = None
    """What a run's start is refused with: its status 409 answer."""
    signed_in: bool = False
    cut: bool = False
    """Streams of runs end at once, and new ones are refused."""
    posts: list[tuple[str, Any]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def last_post(self, path: str) -> Any:
        return next(body for asked, body in reversed(self.posts) if asked == path)


class ScriptedPage:
    """The server, on a free port, until the end of the block."""

    def __init__(self) -> None:
        self.script = Script()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(Answering):
            script = property(lambda _: page.script)

        return Handler

    def __enter__(self) -> ScriptedPage:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.script.ended.set()
        self._server.shutdown()
        self._server.server_close()


class Answering(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.0"  # a stream ends with its connection
    script: Any

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/":
            return self._send("text/html", read_asset("index.html"))
        if url.path.startswith("/assets/"):
            name = unquote(url.path[8:])
            return self._send(TYPES[name.rpartition(".")[2]], read_asset(name))
        if "boobench=1" not in (self.headers.get("Cookie") or ""):
            return self._fail(401, "not signed in")
        asked = {key: values[0] for key, values in parse_qs(url.query).items()}
        return self._get(url.path, asked)

    def _get(self, path: str, asked: Mapping[str, str]) -> None:
        script: Script = self.script
        plain: dict[str, Callable[[], Any]] = {
            "/api/state": lambda: {"version": "0", "rootdir": "/work", "runs": [], "arena": {"template": "https://arena"}},
            "/api/tree": lambda: filter_tree(script.tree, asked.get("k", "")),
            "/api/runs": lambda: {"runs": list(script.runs.values())},
            "/api/history": lambda: script.history,
            "/api/sessions": lambda: {"sessions": script.history["sessions"]},
            "/api/compare": lambda: script.history["compare"],
            "/api/hosts": lambda: {"hosts": script.hosts},
            "/api/sampling": lambda: {"fields": SAMPLING},
            "/api/votes": lambda: {"tallies": script.history["tallies"]},
        }
        if path in plain:
            try:
                return self._json(200, plain[path]())
            except ValueError as error:
                return self._fail(400, str(error), "k")
        if path.endswith("/events"):
            return self._follow_run(path.split("/")[3])
        if path.endswith("/export"):
            return self._json(200, {"texts": ["a", "b"], "arena_url": "https://arena/?models=a,b"})
        run = script.runs.get(path.rpartition("/")[2])
        return self._json(200, run | {"cells": []}) if run else self._fail(404, f"{path}: no such run")

    def do_POST(self) -> None:
        script: Script = self.script
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("X-Boobench") != "page" or self.headers["Content-Type"] != "application/json":
            return self._fail(403, "not from the page")
        script.posts.append((self.path, body))
        if self.path == "/api/login":
            if body != {"token": TOKEN}:
                return self._fail(401, "the token is not the one that was printed")
            return self._json(200, {}, {"Set-Cookie": "boobench=1; HttpOnly; SameSite=Strict; Path=/"})
        if self.path == "/api/runs":
            return self._start_run(body)
        if self.path in ("/api/try", "/api/ab"):
            return self._stream(script.talk)
        if self.path.endswith("/vote"):
            sides = [{"host": "embedded", "model": name} for name in ("tiny", "small")]
            return self._json(200, {"sides": sides, "tally": script.history["tallies"][0]})
        return self._json(200, {})

    def _start_run(self, body: Mapping[str, Any]) -> None:
        script: Script = self.script
        command = "pytest --boobench" + (f" -k '{body['k']}'" if body["k"] else "")
        command += "".join(f" '{node}'" for node in body["node_ids"] or ())
        if body.get("dry"):
            return self._json(200, {"command": command})
        if script.start:
            return self._json(409, script.start)
        run = make_run("r1", command)
        script.runs["r1"] = run
        return self._json(201, run)

    def _follow_run(self, name: str) -> None:
        script: Script = self.script
        if script.cut:
            return self._fail(503, "ending")
        self._begin_stream()
        seen = int(self.headers.get("Last-Event-ID") or 0)
        while not script.ended.is_set() and not script.cut:
            for event, data in script.events[seen:]:
                seen += 1
                self._event(event, data, seen)
                if event == "end":
                    return None
            time.sleep(0.02)
        return None

    def _stream(self, events: list[Event]) -> None:
        self._begin_stream()
        for event, data in events:
            if event == "pause":
                self.script.ended.wait(data["s"])
            else:
                self._event(event, data)

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()

    def _event(self, event: str, data: Mapping[str, Any], number: int | None = None) -> None:
        mark = "" if number is None else f"id: {number}\n"
        try:
            self.wfile.write(f"{mark}event: {event}\ndata: {json.dumps(data)}\n\n".encode())
            self.wfile.flush()
        except OSError:  # the browser has gone
            self.close_connection = True

    def _json(self, status: int, answer: Any, headers: Mapping[str, str] | None = None) -> None:
        self._send("application/json", json.dumps(answer).encode(), status, headers or {})

    def _fail(self, status: int, message: str, where: str | None = None) -> None:
        self._json(status, {"error": {"message": message, "where": where}})

    def _send(self, kind: str, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        sent = {"Content-Type": kind, "Content-Security-Policy": POLICY, "Cache-Control": "no-cache", **(headers or {})}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def make_run(name: str, command: str = "pytest --boobench", **facts: Any) -> dict[str, Any]:
    run = {
        "id": name, "session": None, "command": command, "state": "running", "started_at": time.time() - 30,
        "ended_at": None, "exit_code": None, "exit_word": None, "hosts": ["embedded"], "done": 1, "total": 3,
        "left_s": 42.0, "red": [], "refused": [],
    }  # fmt: skip
    return run | facts


def list_cells(tree: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for suite in tree["suites"]:
        for host in suite["hosts"]:
            for model in host["models"]:
                yield from model["cells"]


def filter_tree(tree: dict[str, Any], k: str) -> dict[str, Any]:
    """As ``-k`` does for one word; a ValueError where it is none."""
    if k and not k.isalnum():
        raise ValueError(f"{k}: expected an expression as pytest's -k takes")
    for cell in list_cells(tree):
        cell["selected"] = k in cell["node_id"]
    return tree
