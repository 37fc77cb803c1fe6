"""Room 2: the hosts file: what comes of a good one, what is said of a bad one, and that no secret is ever shown."""

from __future__ import annotations

import copy
import dataclasses
import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_boobench.errors import DocumentError, HostError
from pytest_boobench.hosts import addresses, inventory
from pytest_boobench.hosts.embedded import EmbeddedSettings
from pytest_boobench.hosts.inventory import Host, Inventory

KEY = "sk-very-secret"


def load(folder: Path, content: str, env: Mapping[str, str] | None = None) -> Inventory:
    """The inventory in a file of this content."""
    path = folder / "boobench.hosts.yaml"
    path.write_text(content)
    return inventory.load(path, display="hosts.yaml", env=env or {})


def load_host(folder: Path, fields: str, env: Mapping[str, str] | None = None) -> Host:
    """The only host of a file, with these fields."""
    return load(folder, f"hosts:\n  rack-1: {{{fields}}}\n", env).get("rack-1")


def refuse(folder: Path, content: str) -> list[str]:
    """What is said of a bad file, one problem a line, the file's name left out."""
    with pytest.raises(DocumentError) as caught:
        load(folder, content)
    return [line.removeprefix("hosts.yaml:") for line in str(caught.value).splitlines()]


def test_the_embedded_host_is_always_there(tmp_path: Path) -> None:
    embedded = Host(name="embedded", server="embedded", embedded=EmbeddedSettings())
    assert inventory.load(None, env={}).get("embedded") == embedded
    assert load(tmp_path, "hosts: {}").get("embedded") == embedded


def test_hosts_keep_the_files_order_after_the_embedded_one(tmp_path: Path) -> None:
    found = load(tmp_path, "hosts: {b: {url: http://b}, a: {url: http://b/}}")
    assert (found.names, found.display) == (("embedded", "b", "a"), "hosts.yaml")
    assert found.get("a").base_url == found.get("b").base_url


def test_all_that_can_be_said_of_a_host_arrives(tmp_path: Path) -> None:
    fields = (
        "server: llama-swap, url: 'https://h:9292', proxy: true, shared: false, verify: ca.pem, api_key: '${K}', "
        "machine: rack"
    )
    assert load_host(tmp_path, fields) == Host(
        name="rack-1",
        server="llama-swap",
        base_url="https://h:9292",
        proxy=True,
        shared=False,
        machine="rack",
        verify=tmp_path / "ca.pem",
        key_variable="K",
    )


def test_the_embedded_server_can_be_made_heavier_and_have_twins(tmp_path: Path) -> None:
    found = load(tmp_path, "hosts: {embedded: {layers: 4}, heavy: {server: embedded, layers: 16, width: 1024}}")
    assert found.names == ("embedded", "heavy")
    assert found.get("embedded").embedded == EmbeddedSettings(layers=4)
    assert found.get("heavy").embedded == EmbeddedSettings(layers=16, width=1024)
    assert found.get("heavy").server == "embedded"


def test_every_setting_of_the_embedded_server_can_be_written() -> None:
    host = inventory.schema()["properties"]["hosts"]["additionalProperties"]["properties"]
    for setting in dataclasses.fields(EmbeddedSettings):
        assert host[setting.name]["default"] == setting.default


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("http://10.0.0.5:9292", "http://10.0.0.5:9292"),
        ("http://h/", "http://h"),
        ("http://h:8080/v1", "http://h:8080"),
        ("http://h:8080/v1/", "http://h:8080"),
        ("HTTP://Host.Example:80", "http://host.example"),
        ("https://h:443/proxy/", "https://h/proxy"),
        ("https://h/upstream/m/v1", "https://h/upstream/m"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_one_server_has_one_url(tmp_path: Path, written: str, url: str) -> None:
    assert load_host(tmp_path, f"url: '{written}'").base_url == url


@pytest.mark.parametrize(
    ("fields", "here", "among_machines"),
    [
        ("url: http://10.0.0.5:8080", "10.0.0.5", "10.0.0.5"),
        ("url: http://10.0.0.5:9292/m", "10.0.0.5", "10.0.0.5"),
        ("url: 'http://[2001:DB8:0::5]:1'", "2001:db8::5", "2001:db8::5"),
        ("url: 'http://[::ffff:10.0.0.5]:1'", "10.0.0.5", "10.0.0.5"),
        ("url: http://rack.test", "10.0.0.5", "10.0.0.5"),
        ("url: http://nowhere.test:1", "nowhere.test", "nowhere.test"),
        ("url: http://desk.test", "this machine", "this machine on desk"),
        ("url: http://localhost:8080", "this machine", "this machine on desk"),
        ("url: 'http://[::1]:8080/m'", "this machine", "this machine on desk"),
        ("url: https://127.0.0.1", "this machine", "this machine on desk"),
        ("url: http://127.0.0.2", "this machine", "this machine on desk"),
        ("server: embedded, layers: 4", "this machine", None),
        ("url: http://localhost:8080, machine: left", "machine left", "machine left"),
        ("server: embedded, machine: left", "machine left", "machine left"),
    ],
)
def test_what_one_cell_at_a_time_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: str, here: str, among_machines: str | None
) -> None:
    """A machine, whatever the port; loopback is this one, whatever it is called, and another one on each."""
    known = {"rack.test": ("2001:db8::5", "10.0.0.5", "10.0.0.6"), "desk.test": ("10.0.0.7", "127.0.1.1")}

    def look_up(name: str, *_: object, **how: object) -> list[tuple[object, ...]]:
        if name not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(0, 0, 0, "", (address, 0)) for address in known[name]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    host = load_host(tmp_path, fields)
    assert (host.exclusive, host.exclusive_among_machines("desk")) == (here, among_machines)


def test_an_address_of_this_machine_is_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among machines it stays what all of them call it."""
    monkeypatch.setattr(inventory, "is_own", lambda address: address == "10.0.0.5")
    host = load_host(tmp_path, "url: http://10.0.0.5:8080")
    assert (host.exclusive, host.exclusive_among_machines("desk")) == ("this machine", "10.0.0.5")


def test_what_is_own_is_asked_of_the_system() -> None:
    assert [addresses.is_own(address) for address in ("127.0.0.1", "192.0.2.1", "rack.test")] == [
        True,
        False,
        False,
    ]


def test_two_hosts_of_a_machine_have_one_lock(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        "hosts: {a: {url: 'http://localhost:1'}, b: {url: 'http://127.0.0.1:2/'}, c: {url: 'http://10.0.0.5'}}",
    )
    names = [found.get(name).lock_name for name in ("a", "b", "c", "embedded")]
    assert names[0] == names[1] == names[3] != names[2]
    assert all(name.endswith(".lock") and name.isprintable() and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            "server: vlm, url: http://h",
            "server: expected embedded, llama-server, llama-swap, openai, vllm, ollama or lmstudio, got 'vlm'",
        ),
        ("server: llama-swap", "url: is missing; expected a url such as http://10.0.0.5:9292"),
        ("url: '10.0.0.5:9292'", "url: expected a url such as http://10.0.0.5:9292, got '10.0.0.5:9292'"),
        ("url: ftp://h", "url: expected a url such as http://10.0.0.5:9292, got 'ftp://h'"),
        ("url: 'http://'", "url: expected a url such as http://10.0.0.5:9292, got 'http://'"),
        ("url: 'http://h h'", "url: expected a url such as http://10.0.0.5:9292, got 'http://h h'"),
        ("url: http://h:99999", "url: expected a url such as http://10.0.0.5:9292, got 'http://h:99999'"),
        ("url: 'http://[::1'", "url: expected a url such as http://10.0.0.5:9292, got 'http://[::1'"),
        ("url: 8080", 'url: expected text, got 8080; write "8080" in quotes'),
        ("url: http://h/v1/models", "url: leave out /v1 and what follows it; paths are added per request"),
        (f"url: 'http://me:{KEY}@h'", "url: a url must not carry a user or a password; write api_key: ${NAME}"),
        (
            f"url: 'http://h?key={KEY}'",
            "url: a url must not carry a query or a fragment; a key goes into api_key: ${NAME}",
        ),
        ("url: 'http://${HOST}'", "url: only api_key takes ${NAME}; write the url as it is"),
        (
            f"url: http://h, api_key: {KEY}",
            "api_key: expected ${NAME}, the environment variable that holds the key; the key itself must not be here",
        ),
        (
            f"url: http://h, api_key: '${{K}}{KEY}'",
            "api_key: expected ${NAME}, the environment variable that holds the key; the key itself must not be here",
        ),
        (f"url: http://h, apikey: {KEY}", "apikey: unknown key; did you mean 'api_key'?"),
        ("url: http://h, proxy: yes", "proxy: expected true or false, got 'yes'"),
        ("url: http://h, verify: 3", "verify: expected true, false or a file of CA certificates, got 3"),
        (
            "url: http://h, layers: 4",
            "layers: only the embedded server has it; leave it out, or write server: embedded",
        ),
        ("server: embedded, layers: 0", "layers: expected a whole number from 1, got 0"),
        ("server: embedded, layers: 4000", "layers: expected a whole number from 1 to 128, got 4000"),
        ("server: embedded, width: 100", "width: expected a multiple of 256 from 256 to 4096, got 100"),
        ("server: embedded, widht: 256", "widht: unknown key; did you mean 'width'?"),
        (
            "server: embedded, url: http://h",
            "url: the embedded server is started by us, on this machine; leave it out",
        ),
    ],
)
def test_a_bad_field_is_said_without_its_secret(tmp_path: Path, fields: str, said: str) -> None:
    problems = refuse(tmp_path, f"hosts:\n  rack-1: {{{fields}}}\n")
    assert problems == [f"2: hosts.rack-1.{said}"]
    assert KEY not in str(problems)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ["1: the file is empty"]),
        ("[]", ["1: expected a mapping with hosts, got an empty list"]),
        (
            "host: {}",
            [
                "1: host: unknown key; did you mean 'hosts'?",
                "1: hosts: is missing; expected a mapping of names to hosts",
            ],
        ),
        ("hosts: [a]", ["1: hosts: expected a mapping of names to hosts, got a list"]),
        (
            "hosts:\n  a[b]:\n    url: http://h\n  embedded:\n    server: vllm\n    api_key: ${K}\n  c:\n    url: h\n",
            [
                "2: hosts.a[b]: the name 'a[b]' holds '[', which a node id cannot carry",
                "5: hosts.embedded.server: the host 'embedded' is the built-in one; give this one another name",
                "6: hosts.embedded.api_key: the embedded server is started by us, on this machine; leave it out",
                "8: hosts.c.url: expected a url such as http://10.0.0.5:9292, got 'h'",
            ],
        ),
        (
            "hosts:\n  '[key]': {url: http://h, urk: 1}\n  ok: 3\n",
            [
                "2: hosts.[key]: the name '[key]' holds '[', which a node id cannot carry",
                "2: hosts.[key].urk: unknown key; did you mean 'url'?",
                "3: hosts.ok: expected a mapping with server, url, api_key, proxy, shared, machine, reference, "
                "models, restore, verify, start, "
                "files, layers, width, feed_forward, threads, slots, context_tokens, got 3",
            ],
        ),
        (
            "hosts:\n  a: {url: http://h}\n  a: {url: http://i}\n",
            ["3: hosts.a: stands twice, first on line 2; keep one of them"],
        ),
    ],
)
def test_all_problems_of_a_file_are_said_at_once(tmp_path: Path, content: str, said: list[str]) -> None:
    assert refuse(tmp_path, content) == said


def test_an_unknown_host_is_said_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"^no host 'rack-2' in hosts\.yaml; did you mean 'rack-1'\?$"):
        load(tmp_path, "hosts: {rack-1: {url: http://h}}").get("rack-2")
    with pytest.raises(HostError, match=r"^no host 'rack-2' without a hosts file; known are embedded$"):
        inventory.load(None, env={}).get("rack-2")


class TestKeys:
    FIELDS = "url: http://h, api_key: '${RACK1_KEY}'"

    def test_it_comes_from_the_environment(self, tmp_path: Path) -> None:
        assert load_host(tmp_path, self.FIELDS, {"RACK1_KEY": f" {KEY}\n"}).require_key() == KEY

    def test_a_host_may_need_none(self, tmp_path: Path) -> None:
        assert load_host(tmp_path, "url: http://h").require_key() is None

    @pytest.mark.parametrize("env", [{}, {"RACK1_KEY": ""}])
    def test_it_is_missed_only_when_the_host_is_used(self, tmp_path: Path, env: Mapping[str, str]) -> None:
        host = load_host(tmp_path, self.FIELDS, env)
        with pytest.raises(HostError) as caught:
            host.require_key()
        assert str(caught.value) == "rack-1: api_key: the environment variable RACK1_KEY is not set; set it"

    @pytest.mark.parametrize("key", [f"{KEY}\nX-Other: 1", f"{KEY}é"])
    def test_one_that_no_header_can_carry_is_refused_without_showing_it(self, tmp_path: Path, key: str) -> None:
        host = load_host(tmp_path, self.FIELDS, {"RACK1_KEY": key})
        with pytest.raises(HostError) as caught:
            host.require_key()
        assert str(caught.value) == "rack-1: api_key: RACK1_KEY holds a character that no key can have"

    def test_it_is_never_shown(self, tmp_path: Path) -> None:
        found = load(tmp_path, f"hosts:\n  rack-1: {{{self.FIELDS}}}\n", {"RACK1_KEY": KEY})
        host = found.get("rack-1")
        shown = [repr(found), str(host), f"{host}", repr(dataclasses.asdict(host)), repr(copy.deepcopy(host))]
        assert not [text for text in shown if KEY in text]
        with pytest.raises(TypeError):
            json.dumps(dataclasses.asdict(host)["_key"])


class TestCertificates:
    @pytest.mark.parametrize("verify", [True, False])
    def test_they_are_checked_or_not(self, tmp_path: Path, verify: bool) -> None:
        assert load_host(tmp_path, f"url: https://h, verify: {str(verify).lower()}").require_verify() is verify

    def test_a_file_of_cas_lies_beside_the_hosts_file(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").touch()
        assert load_host(tmp_path, "url: https://h, verify: ca.pem").require_verify() == tmp_path / "ca.pem"

    def test_it_is_missed_only_when_the_host_is_used(self, tmp_path: Path) -> None:
        host = load_host(tmp_path, "url: https://h, verify: ca.pem")
        with pytest.raises(HostError) as caught:
            host.require_verify()
        assert str(caught.value) == f"rack-1: verify: no file {tmp_path / 'ca.pem'}; expected CA certificates in PEM"


def test_the_example_is_good() -> None:
    path = Path(__file__).parents[2] / "example_suites" / "boobench.hosts.yaml"
    found = inventory.load(path, env={})
    assert (found.names, found.display) == (("embedded", "rack-1", "rack-2", "lab"), "boobench.hosts.yaml")
    assert [found.get(name).server for name in found.names] == [
        "embedded",
        "llama-swap",
        "llama-server",
        "llama-server",
    ]
    assert found.get("rack-1").key_variable == "RACK1_KEY"


def test_the_schema_is_json_and_closed() -> None:
    schema = inventory.schema()
    assert json.loads(json.dumps(schema)) == schema
    host = schema["properties"]["hosts"]["additionalProperties"]
    assert host["additionalProperties"] is False
    assert host["properties"]["api_key"]["pattern"] == r"^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$"
    assert host["properties"]["verify"]["type"] == ["boolean", "string"]


def test_reading_hosts_brings_neither_http_client_nor_llama_cpp() -> None:
    code = (
        "import sys; from pytest_boobench.hosts import inventory; "
        "print({'httpx', 'sqlalchemy', 'xllamacpp'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"


def write_hosts(**hosts: str) -> str:
    """A file of these hosts, each with its fields."""
    return "hosts:\n" + "".join(f"  {name}: {{{fields}}}\n" for name, fields in hosts.items())


def test_ports_of_one_address_are_one_machine_though_only_one_of_them_names_it(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        write_hosts(
            a="url: http://10.0.0.5:1, machine: gpu-a",
            b="url: http://10.0.0.5:2",
            tunnel="url: http://127.0.0.1:1, machine: gpu-b",
            here="url: http://127.0.0.1:2",
            left="url: http://10.0.0.6:1, machine: left",
            right="url: http://10.0.0.6:2, machine: right",
            gateway="url: http://10.0.0.6:3",
        ),
    )
    assert {name: host.exclusive for name, host in found.hosts.items() if name != "embedded"} == {
        "a": "machine gpu-a",
        "b": "machine gpu-a",
        "tunnel": "machine gpu-b",
        "here": "this machine",
        "left": "machine left",
        "right": "machine right",
        "gateway": "10.0.0.6",
    }


@pytest.mark.parametrize(
    ("fields", "here"),
    [
        ("url: http://127.0.0.1:1", True),
        ("url: http://10.0.0.9:1", True),
        ("url: http://10.0.0.5:1", False),
        ("url: http://10.0.0.5:1, machine: desk", True),
        ("url: http://10.0.0.5:1, machine: rack", False),
    ],
)
def test_whose_machine_is_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: str, here: bool) -> None:
    """Its canary holds for them."""
    monkeypatch.setattr(inventory, "is_own", lambda address: address == "10.0.0.9")
    found = load(tmp_path, write_hosts(own="server: embedded, machine: desk", other=fields))
    assert (found.get("own").here, found.get("other").here) == (True, here)


def test_the_reference_of_a_machine(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        write_hosts(
            a="url: http://10.0.0.5:1",
            old="url: http://10.0.0.5:2, reference: true",
            b="url: http://10.0.0.6:1, models: {new: {}, pinned: {reference: true}}",
            c="url: http://10.0.0.7:1, models: {new: {reference: false}}, reference: false",
        ),
    )
    references = {name: found.find_reference(name) for name in (*found.hosts, "unknown")}
    assert {name: one and (one.name, one.reference) for name, one in references.items()} == {
        "embedded": None,
        "a": ("old", ""),
        "old": ("old", ""),
        "b": ("b", "pinned"),
        "c": None,
        "unknown": None,
    }


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        (
            {"a": "url: http://h:1, reference: true", "b": "url: http://h:2, models: {m: {reference: true}}"},
            "3: hosts.b.models: the reference of this machine is a; a machine has one",
        ),
        (
            {
                "a": "url: http://h:1, machine: m, reference: true",
                "b": "url: http://i:2, machine: m, reference: true",
            },
            "3: hosts.b.reference: the reference of this machine is a; a machine has one",
        ),
        (
            {"a": "url: http://h:1, models: {m: {reference: true}, n: {reference: true}}"},
            "2: hosts.a.models: a host has one reference; name it once, under models or for the whole host",
        ),
        (
            {"a": "url: http://h:1, reference: true, models: {m: {reference: true}}"},
            "2: hosts.a.reference: a host has one reference; name it once, under models or for the whole host",
        ),
        (
            {"a": "start: {command: [serve, '{port}']}, reference: true"},
            "2: hosts.a.reference: expected the model to start; write models: {NAME: {reference: true}}",
        ),
        (
            {"a": "url: http://h:1, models: {m: {reference: 1}}"},
            "2: hosts.a.models.m.reference: expected true or false, got 1",
        ),
    ],
)
def test_a_machine_has_one_reference(tmp_path: Path, hosts: dict[str, str], said: str) -> None:
    assert refuse(tmp_path, write_hosts(**hosts)) == [said]
