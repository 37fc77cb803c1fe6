"""Who may ask the page's server: a table of attacks, each against a real server on a real socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from pytest_boobench.page.guard import MOST_RUN_BYTES, Doorkeeper, find_names
from tests.page.serving import OURS, ServedPage

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.page.serving import serve

    folder = tmp_path_factory.mktemp("guarded")
    (folder / "pytest.ini").write_text("[pytest]\n")
    with serve(folder) as served:
        yield served


def test_the_page_itself_may_ask(shared: ServedPage) -> None:
    origin = {"Origin": shared.address, "Sec-Fetch-Site": "same-origin"}
    assert shared.client.get("/api/state", headers=origin).status_code == 200
    assert shared.client.post("/api/runs/x/stop", json={"how": "interrupt"}, headers=origin).status_code == 404


ATTACKS: dict[str, tuple[str, str, dict[str, str], int]] = {
    "a name that points here (DNS rebinding)": ("GET", "/api/state", {"Host": "evil.example:PORT"}, 403),
    "rebinding where Origin equals Host": (
        "POST", "/api/runs", {"Host": "evil.example:PORT", "Origin": "http://evil.example:PORT"}, 403,
    ),
    "a host that begins like ours": ("GET", "/api/state", {"Host": "127.0.0.1:PORT.evil.example"}, 403),
    "a host that begins like localhost": ("GET", "/api/state", {"Host": "localhost.evil.example:PORT"}, 403),
    "a host with userinfo": ("GET", "/api/state", {"Host": "127.0.0.1:PORT@evil.example"}, 403),
    "another port": ("GET", "/api/state", {"Host": "127.0.0.1:1"}, 403),
    "a post from another page": ("POST", "/api/runs", {"Origin": "http://evil.example"}, 403),
    "a post from a sandbox": ("POST", "/api/runs", {"Origin": "null"}, 403),
    "a post from another port": ("POST", "/api/runs", {"Origin": "http://127.0.0.1:1"}, 403),
    "a post from another site without Origin": ("POST", "/api/runs", {"Sec-Fetch-Site": "cross-site"}, 403),
    "a post from another port's site": ("POST", "/api/runs", {"Sec-Fetch-Site": "same-site"}, 403),
    "a stream from elsewhere": ("GET", "/api/runs/x/events", {"Sec-Fetch-Site": "cross-site"}, 403),
    "a stream with another origin": ("GET", "/api/runs/x/events", {"Origin": "http://evil.example"}, 403),
    "a form": ("POST", "/api/runs", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "text/plain, which needs no preflight": ("POST", "/api/runs", {"Content-Type": "text/plain"}, 415),
    "multipart": ("POST", "/api/runs", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
    "no header of our own": ("POST", "/api/runs", {"X-Boobench": ""}, 403),
    "a preflight": ("OPTIONS", "/api/runs", {"Origin": "http://evil.example"}, 405),
    "a method of its own": ("PUT", "/api/runs", {}, 405),
    "no cookie": ("GET", "/api/state", {"Cookie": ""}, 401),
    "a cookie of another port": ("GET", "/api/state", {"Cookie": "boobench-1=SESSION"}, 401),
    "a wrong cookie": ("GET", "/api/state", {"Cookie": "boobench-PORT=guess"}, 401),
    "a cookie with odd characters": ("GET", "/api/state", {"Cookie": "boobench-PORT=\u00e9"}, 401),
    "a path to a file": ("GET", "/assets/../../pyproject.toml", {}, 404),
    "a path to a file, quoted": ("GET", "/assets/%2e%2e/%2e%2e/pyproject.toml", {}, 404),
    "a path from the root": ("GET", "/assets//etc/passwd", {}, 404),
    "our own code": ("GET", "/assets/../app.py", {}, 404),
    "a report's file that is not listed": ("GET", "/assets/report/page.html", {}, 404),
    "a run by a path": ("GET", "/api/runs/..%2f..%2fetc", {}, 404),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack(attack: str, shared: ServedPage) -> None:
    method, path, changed, status = ATTACKS[attack]
    (session,) = [value for name, value in shared.client.cookies.items() if name == f"boobench-{shared.port}"]
    headers = {"Host": "127.0.0.1:PORT", "Cookie": "boobench-PORT=SESSION"}
    headers |= (OURS | JSON if method != "GET" else {}) | changed
    body = json.dumps({"node_ids": []}).encode() if method != "GET" else b""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value)]
    lines += [f"Content-Length: {len(body)}", "Connection: close"]
    text = "\r\n".join(lines).replace("PORT", str(shared.port)).replace("SESSION", session)
    answer = send(shared.port, text.encode("latin-1") + b"\r\n\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:300]
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"access-control" not in head
    assert b"frame-ancestors 'none'" in head
    assert b"set-cookie" not in head
    assert shared.server.runs.runs == {}


def send(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        return answer


def test_a_request_without_a_host_is_refused(shared: ServedPage) -> None:
    assert b" 400 " in send(shared.port, b"GET /api/state HTTP/1.1\r\nConnection: close\r\n\r\n")[:20]
    assert b" 403 " in send(shared.port, b"GET /api/state HTTP/1.0\r\n\r\n")[:20]


def test_a_websocket_is_not_opened(shared: ServedPage) -> None:
    request = (
        f"GET /api/runs/x/events HTTP/1.1\r\nHost: 127.0.0.1:{shared.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", shared.port), 10) as connection:
        connection.sendall(request.encode())
        assert b" 401 " in connection.recv(100)[:20]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_long_is_not_read(shared: ServedPage, announced: bool) -> None:
    body = b" " * (100 << 20) if announced else (b" " * 65_536 for _ in range(MOST_RUN_BYTES // 65_536 + 2))
    try:
        response = shared.client.post("/api/runs", content=body, headers=JSON)
    except (httpx.WriteError, httpx.ReadError):  # the server closed before all of it was sent
        return
    assert response.status_code == 413


def test_a_token_works_once_and_then_there_is_another(shared: ServedPage) -> None:
    token = shared.doorkeeper.issue()
    with httpx.Client(base_url=shared.address, headers=OURS) as first:
        cookie = first.post("/api/login", json={"token": token}).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert cookie.startswith(f"boobench-{shared.port}=")
        assert first.post("/api/login", json={"token": token}).status_code == 200, "it has the cookie already"
    assert httpx.post(f"{shared.address}/api/login", json={"token": token}, headers=OURS).status_code == 401
    assert httpx.post(f"{shared.address}/api/login", json={"token": ""}, headers=OURS).status_code == 401
    again = {"token": shared.announced[-1]}
    assert httpx.post(f"{shared.address}/api/login", json=again, headers=OURS).status_code == 200


def test_the_files_of_the_page_are_private(shared: ServedPage) -> None:
    folder = shared.server.desk.folder.parent
    assert folder.name == ".boobench"
    assert folder.stat().st_mode & 0o077 == 0


def test_names_are_exact() -> None:
    assert find_names("127.0.0.1", 8117) == {"127.0.0.1:8117", "localhost:8117", "[::1]:8117"}
    assert "10.0.0.7:80" in find_names("10.0.0.7", 80)
    assert "10.0.0.7" in find_names("10.0.0.7", 80)
    everywhere = find_names("0.0.0.0", 8117)
    assert "0.0.0.0:8117" not in everywhere
    assert all(name.endswith(":8117") for name in everywhere)


def test_a_takeover_wants_its_word(page: ServedPage) -> None:
    for confirm in ("", "yes", "Takeover", "takeover "):
        said = page.post("/api/runs", {"takeover": True, "confirm": confirm}, 422)
        assert said["error"]["where"] == "confirm"


BAD: list[tuple[str, dict[str, object], str]] = [
    ("/api/runs", {"node_ids": ["/etc/passwd"]}, "node_ids"),
    ("/api/runs", {"node_ids": ["--boobench-store=x"]}, "node_ids"),
    ("/api/runs", {"hosts": ["nowhere"]}, "hosts"),
    ("/api/runs", {"baseline": "--collect-only"}, "baseline"),
    ("/api/runs", {"wait": "10m; rm"}, "wait"),
    ("/api/runs", {"workers": 1000}, "workers"),
    ("/api/runs", {"k": "a\nb"}, "k"),
    ("/api/runs", {"command": "rm"}, "command"),
    ("/api/try", {"host": "http://evil.example", "model": "x", "messages": [{"role": "user", "content": ""}]}, "host"),
    ("/api/try", {"host": "llama", "model": "x", "messages": []}, "messages"),
    ("/api/try", {"host": "llama", "model": "x", "messages": [{"role": "user", "content": "a"}], "url": "x"}, "url"),
    (
        "/api/try",
        {"host": "llama", "model": "x", "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}]},
        "messages.0.content.0.image_url.image_url.url",
    ),
    (
        "/api/try",
        {"host": "llama", "model": "x", "messages": [{"role": "user", "content": "a"}], "sampling": {"top_p": 2}},
        "sampling.top_p",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "where"), BAD)
def test_nothing_from_the_page_is_a_path_a_url_or_a_command(
    page: ServedPage, path: str, body: dict[str, object], where: str
) -> None:
    said = page.post(path, body, 422)
    assert said["error"]["where"] == where
    assert said["error"]["message"].startswith(f"{where}: ")
    assert page.server.runs.runs == {}


def test_keys_never_reach_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.page.serving import serve

    monkeypatch.setenv("LLAMA_KEY", key := "sk-very-secret-1234567890")
    hosts = folder / "boobench.hosts.yaml"
    hosts.write_text(hosts.read_text().replace("shared: false}", "shared: false, api_key: '${LLAMA_KEY}'}", 1))
    with serve(folder) as page:
        body = {"host": "llama", "model": "tiny-chat", "max_tokens": 3}
        said = [page.client.get(f"/api/{name}").text for name in ("state", "hosts", "tree", "history")]
        asked = {**body, "messages": [{"role": "user", "content": f"the key is {key}"}]}
        events = list(page.stream("POST", "/api/try", asked))
    assert events[-1][0] == "done"
    assert "$LLAMA_KEY" in events[-1][1]["curl"]
    assert key not in json.dumps([said, events])


def test_a_doorkeeper_forgets_the_oldest_sessions() -> None:
    doorkeeper = Doorkeeper(1, frozenset(), lambda token: None)
    for _ in range(150):
        doorkeeper.admit(doorkeeper.issue())
    assert len(doorkeeper._sessions) == 100
