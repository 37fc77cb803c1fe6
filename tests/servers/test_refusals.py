"""What ``boobench hosts`` says of a host that does not answer as it should: what is wrong, what would be right."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import yaml
from click.testing import CliRunner

from pytest_boobench.cli import boobench
from pytest_boobench.hosts.embedded import EmbeddedServer
from pytest_boobench.servers.refusals import explain_silence
from tests import kinds_stand_in as kinds
from tests.fault_server import FaultServer, Peer, Scenario, Seen, closed_port
from tests.kinds_stand_in import KindServer

KEY = "sk-very-secret-1234567890"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that the command stands in, and a key in the environment."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THE_KEY", KEY)
    return tmp_path


class Always(FaultServer):
    """A server that answers everything alike."""

    def __init__(self, scenario: Scenario, tls: ssl.SSLContext | None = None) -> None:
        super().__init__({"always": scenario}, tls)

    def _choose(self, request: Seen) -> str:
        return "always"


def ask(project: Path, **host: Any) -> str:
    """What is said of the only host, its url and its name left out."""
    (project / "boobench.hosts.yaml").write_text(yaml.safe_dump({"hosts": {"rack-1": host}}), encoding="utf-8")
    result = CliRunner().invoke(boobench, ["hosts", "rack-1"], standalone_mode=False)
    assert result.return_value == 1, result.output
    assert KEY not in result.output
    [_, *lines] = result.output.splitlines()
    return "\n".join(lines).replace(host["url"], "URL").strip()


def html(status: str) -> Scenario:
    async def answer(peer: Peer) -> None:
        body = b"<!doctype html><title>Welcome to nginx!</title>"
        await peer.head(status, "text/html", f"Content-Length: {len(body)}")
        await peer.send(body)

    return answer


def status(line: str, *more: str) -> Scenario:
    async def answer(peer: Peer) -> None:
        await peer.answer(line, {"error": {"message": "in its own words"}}, *more)

    return answer


async def hang_up(peer: Peer) -> None:
    peer.leave()


async def say_ssh(peer: Peer) -> None:
    await peer.send(b"SSH-2.0-OpenSSH_9.6\r\nInvalid SSH identification string.\r\n\r\n")


async def say_another_thing(peer: Peer) -> None:
    await peer.answer("200 OK", {"hello": "world"})


async def say_text(peer: Peer) -> None:
    await peer.head("200 OK", "text/plain", "Content-Length: 2")
    await peer.send(b"hi")


@contextmanager
def answer_at_once(data: bytes) -> Iterator[int]:
    """The port of a server that says the same to whoever says something."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as peer:
                peer.recv(1)
                peer.sendall(data)
                peer.recv(65_536)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("answer", "host", "said"),
    [
        pytest.param(
            status("401 Unauthorized"),
            {},
            "GET /v1/models: 401: the host wants a key; write api_key: ${NAME} in the hosts file, "
            "NAME being the environment variable that holds it",
            id="no key",
        ),
        pytest.param(
            status("401 Unauthorized"),
            {"api_key": "${THE_KEY}"},
            "GET /v1/models: 401: the host wants another key; see api_key in the hosts file",
            id="wrong key",
        ),
        pytest.param(
            status("403 Forbidden"),
            {"api_key": "${THE_KEY}", "server": "llama-swap"},
            "GET /running: 403: the host wants another key; see api_key in the hosts file",
            id="wrong key, known kind",
        ),
        pytest.param(
            status("200 OK"),
            {"api_key": "${NO_KEY}"},
            "api_key: the environment variable NO_KEY is not set; set it",
            id="unset key",
        ),
        pytest.param(
            html("200 OK"),
            {},
            "GET /v1/models: 200: the answer is a web page: 'Welcome to nginx!'; is URL an LLM server?",
            id="web page",
        ),
        pytest.param(
            html("404 Not Found"),
            {"server": "llama-server"},
            "GET /props: 404: the answer is a web page: 'Welcome to nginx!'; is URL an LLM server?",
            id="web page of an error",
        ),
        pytest.param(say_text, {}, "GET /v1/models: the answer is not JSON: 'hi'; is URL an LLM server?", id="text"),
        pytest.param(
            say_another_thing,
            {},
            "GET /v1/models: expected a list of models under 'data'; is this an LLM server?",
            id="another API",
        ),
        pytest.param(
            status("302 Found", "Location: https://me:secret@login.example/?token=secret#secret"),
            {},
            "GET /v1/models: 302: it redirects to https://login.example/; the url must answer itself, "
            "without a login before it",
            id="redirect",
        ),
        pytest.param(status("500 Internal Server Error"), {}, "GET /v1/models: 500: in its own words", id="error"),
        pytest.param(
            hang_up,
            {},
            "no answer from URL: it hung up without an answer; should the url begin with https://, is the port right?",
            id="hangs up",
        ),
        pytest.param(say_ssh, {}, "no answer from URL: its answer is not HTTP; is the port right?", id="ssh"),
    ],
)
def test_a_host_that_answers_otherwise(project: Path, answer: Scenario, host: Mapping[str, str], said: str) -> None:
    with Always(answer) as server:
        assert ask(project, url=server.url, **host) == said


def test_a_host_that_never_answers(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_boobench.wire.http_clients.CONTROL_TIMEOUT", httpx.Timeout(0.3))

    async def keep_silent(peer: Peer) -> None:
        """Never a byte."""

    with Always(keep_silent) as server:
        assert ask(project, url=server.url) == (
            "no answer from URL: it took the connection and gave no answer in time; is it a web server, "
            "and does it still work?"
        )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"http://127.0.0.1:{closed_port()}", "connection refused; is the server running, and at this port?"),
        ("http://no-such-host.invalid", "its name has no address; check the url in the hosts file"),
    ],
    ids=["closed port", "no such name"],
)
def test_nobody_is_there(project: Path, url: str, said: str) -> None:
    assert ask(project, url=url) == f"no answer from URL: {said}"
    assert ask(project, url=url, server="ollama") == f"GET /api/version: no answer from URL: {said}"


def test_a_host_that_only_a_proxy_reaches(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Always(status("200 OK")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert ask(project, url=f"http://127.0.0.1:{closed_port()}", proxy=True) == (
            "proxy: measured requests go straight to URL, never through a proxy, and do not get there "
            "(connection refused); measure from a machine that reaches it"
        )
        assert ask(project, url="http://no-such-host.invalid", proxy=True) == (
            "proxy: measured requests go straight to URL, never through a proxy, and do not get there (no connection); "
            "measure from a machine that reaches it"
        )


def test_a_host_that_a_proxy_reaches_too(project: Path, llama: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Always(status("502 Bad Gateway")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert ask(project, url=llama.url, proxy=True) == "GET /v1/models: 502: in its own words"


class TestTls:
    @pytest.fixture
    def ca(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def trusted(self, ca: trustme.CA, project: Path) -> str:
        """The name of a file beside the hosts file."""
        ca.cert_pem.write_to_path(project / "ca.pem")
        return "ca.pem"

    @staticmethod
    def context(ca: trustme.CA, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(name).configure_cert(context)
        return context

    def test_a_certificate_of_nobody_we_know(self, project: Path, ca: trustme.CA) -> None:
        with Always(hang_up, self.context(ca, "127.0.0.1")) as server:
            assert ask(project, url=server.url) == (
                "no answer from URL: its certificate is not trusted (unable to get local issuer certificate); "
                "name its CA's file as verify in the hosts file"
            )

    def test_a_certificate_of_another_name(self, project: Path, ca: trustme.CA, trusted: str) -> None:
        with Always(hang_up, self.context(ca, "rack-1.example")) as server:
            assert ask(project, url=server.url, verify=trusted) == (
                "no answer from URL: its certificate is for another name; write the url with that name"
            )

    def test_http_where_https_is_spoken(self, project: Path, ca: trustme.CA) -> None:
        with Always(hang_up, self.context(ca, "127.0.0.1")) as server:
            assert ask(project, url=server.url.replace("https:", "http:")) == (
                "no answer from URL: it hung up without an answer; should the url begin with https://, "
                "is the port right?"
            )

    def test_https_where_http_is_spoken(
        self, project: Path, llama: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """llama.cpp waits for the end of a header that never comes; others say that it makes no sense."""
        monkeypatch.setattr("pytest_boobench.wire.http_clients.CONTROL_TIMEOUT", httpx.Timeout(5.0, connect=0.3))
        assert ask(project, url=llama.url.replace("http:", "https:")) == (
            "no answer from URL: it took the connection and spoke no TLS; should the url begin with http://?"
        )
        with answer_at_once(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
            assert ask(project, url=f"https://127.0.0.1:{port}") in (
                "no answer from URL: TLS failed (wrong version number); should the url begin with http://?",
                "no answer from URL: TLS failed (record layer failure); should the url begin with http://?",
            )

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "verify: no file ca.pem; expected CA certificates in PEM"),
            ("no PEM", "verify: no certificate in ca.pem; expected CA certificates in PEM"),
        ],
    )
    def test_a_file_of_cas_that_is_none(self, project: Path, content: str | None, said: str) -> None:
        if content is not None:
            (project / "ca.pem").write_text(content)
        assert ask(project, url="https://127.0.0.1:1", verify="ca.pem").replace(f"{project}/", "") == said


@pytest.mark.parametrize(
    ("called", "said"),
    [
        (
            "llama-swap",
            "GET /running: 404: no such path: /running; it answers as ollama: mend server in the hosts file",
        ),
        ("llama-server", "GET /props: 404: no such path: /props; it answers as ollama: mend server in the hosts file"),
    ],
)
def test_a_host_that_is_called_another_kind_than_it_is(project: Path, called: str, said: str) -> None:
    with KindServer(kinds.Ollama(("good",))) as server:
        assert ask(project, url=server.url, server=called) == said


@pytest.mark.parametrize("called", ["llama-swap", "openai"])
def test_a_kind_that_cannot_be_told_is_not_corrected(project: Path, called: str) -> None:
    with Always(say_another_thing) as server:
        assert "mend server" not in ask(project, url=server.url, server=called)


def test_a_router_may_be_called_a_llama_server(project: Path) -> None:
    class Broken(kinds.Router):
        def pages(self) -> Mapping[str, kinds.Page]:
            return {"/props": super().pages()["/props"]}

    with KindServer(Broken(())) as server:
        assert ask(project, url=server.url, server="llama-server") == "GET /v1/models: 404: no such path: /v1/models"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            httpx.ConnectTimeout(""),
            "no connection in time; is it switched on and on this network, is a firewall in between?",
        ),
        (
            httpx.ConnectError("odd"),
            "it hung up without an answer; should the url begin with https://, is the port right?",
        ),
    ],
)
def test_what_cannot_be_made_here(error: httpx.RequestError, said: str) -> None:
    assert explain_silence(error) == said


def test_the_systems_own_word_is_told() -> None:
    error = httpx.ConnectError("All connection attempts failed")
    error.__cause__ = ExceptionGroup("several", [OSError(113, "x"), OSError(101, "y")])
    assert explain_silence(error) == "no route to host; is it switched on and on this network?"
