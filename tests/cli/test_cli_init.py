"""``boobench init``: what it finds out, what it writes, and that the house can read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from pytest_boobench import suite
from pytest_boobench.cli import boobench, init_texts, main
from pytest_boobench.cli.init_discovery import Chosen, Discovery, find_options
from pytest_boobench.cli.init_texts import choose_sizes
from pytest_boobench.facts import ModelFacts
from pytest_boobench.hosts.embedded import EmbeddedServer
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.servers import witness
from tests import kinds_stand_in as kinds
from tests.conftest import CHECKOUT, PLUGINS, name_plugins
from tests.fault_server import FaultServer, Peer, closed_port
from tests.forking import run_pytest
from tests.kinds_stand_in import KindServer, StandIn
from tests.llama_swap_stand_in import LlamaSwapStandIn
from tests.stand_in import KEY, openai_server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the command stands in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["init", *args], standalone_mode=False)


def read_suite(name: str) -> dict[str, Any]:
    written: dict[str, Any] = yaml.safe_load(Path("suites", f"{name}.boobench.yaml").read_text(encoding="utf-8"))
    return written


def comment_on(file: str, start: str) -> str:
    """What stands behind a line of a written file."""
    line = next(line for line in Path(file).read_text().splitlines() if line.strip().startswith(start))
    return line.partition("# ")[2]


def test_a_llama_server(folder: Path, llama: EmbeddedServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", llama.url]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"local: llama-server b0-unknown at {llama.url}, 2 models",
        "wrote pytest.ini",
        "wrote boobench.hosts.yaml",
        "wrote suites/embedding.boobench.yaml",
        "wrote suites/chat.boobench.yaml",
        "next:",
        "  boobench check                                      what the suites come to",
        "  pytest --boobench suites/ --boobench-save-baseline  measure, and keep the speed as the baseline",
        "  pytest --boobench suites/                           after a change: red where it became slower",
        "  boobench page                                       the same in a browser, and a chat",
    ]
    hosts = yaml.safe_load(Path("boobench.hosts.yaml").read_text())
    assert hosts == {"hosts": {"local": {"server": "llama-server", "url": llama.url}}}
    embedding, chat = read_suite("embedding"), read_suite("chat")
    assert (embedding["models"], embedding["kind"]) == (["tiny-embed"], "embedding")
    assert (chat["models"], chat["kind"]) == (["tiny-chat"], "chat")
    assert chat["grid"] == {"prompt_tokens": [512, 2048], "output_tokens": [128], "concurrency": [1, 4]}
    assert chat["overrides"] == [
        {
            "where": {"concurrency": 4, "prompt_tokens": [2048]},
            "marks": [{"skip": "4 at once may not fit into 4096 tokens that slots may share"}],
        }
    ]
    assert comment_on("suites/chat.boobench.yaml", "prompt_tokens") == "4096 tokens of context have room for them"
    assert main(["check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "suites/chat.boobench.yaml: chat: 4 cells",
        "suites/embedding.boobench.yaml: embedding: 4 cells",
    ]


def test_what_it_writes_is_measured(folder: Path, llama: EmbeddedServer) -> None:
    """From the URL to a stored baseline by the printed commands alone, but for the grid, made smaller for the test."""
    assert run(llama.url).return_value == 0
    for name in ("embedding", "chat"):
        path = Path("suites", f"{name}.boobench.yaml")
        written = read_suite(name)
        written["grid"] = {axis: values[:1] for axis, values in written["grid"].items()}
        written.pop("overrides", None)  # for the concurrency that is gone
        path.write_text(yaml.safe_dump({**written, "samples": 2}), encoding="utf-8")
    args = ["-p", "tests.patient", "-o", "boobench_block_gap=0s", "-o", "boobench_quiet=0s"]
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTEST_ADDOPTS": name_plugins(*PLUGINS)}
    done = run_pytest(["--boobench", "suites/", "--boobench-save-baseline", "-q", *args], folder, environ)
    assert done.ret == 0, done.outlines
    assert " failed" not in str(done.stdout)
    assert (folder / ".boobench" / "store.db").is_file()


def test_nothing_is_overwritten_by_accident(
    folder: Path, llama: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("boobench.hosts.yaml").write_text("hosts: {}\n")
    assert main(["init", llama.url]) == 2
    assert (
        "Error: boobench.hosts.yaml is there already; --force overwrites, --dry-run shows what to add by hand"
        in capsys.readouterr().err
    )
    assert sorted(path.name for path in folder.iterdir()) == ["boobench.hosts.yaml"]
    assert main(["init", llama.url, "--force"]) == 0
    assert main(["init", llama.url]) == 2
    assert "suites/embedding.boobench.yaml, suites/chat.boobench.yaml are there already; " in capsys.readouterr().err


def test_a_dry_run_writes_nothing(folder: Path, llama: EmbeddedServer) -> None:
    result = run(llama.url, "--dry-run")
    assert result.return_value == 0
    heads = [line for line in result.output.splitlines() if line.startswith("--- ")]
    assert heads == [
        "--- pytest.ini",
        "--- boobench.hosts.yaml",
        "--- suites/embedding.boobench.yaml",
        "--- suites/chat.boobench.yaml",
    ]
    assert not list(folder.iterdir())


def test_a_project_that_has_a_configuration(folder: Path, llama: EmbeddedServer) -> None:
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\nboobench_hosts = 'my.yaml'\n")
    assert "pytest.ini" not in run(llama.url, "--dry-run").output
    assert run(llama.url, "--name", "rack-1").return_value == 0
    assert list(yaml.safe_load((folder / "my.yaml").read_text())["hosts"]) == ["rack-1"]
    assert read_suite("chat")["hosts"] == ["rack-1"]


def test_one_slot_is_one_lane(folder: Path) -> None:
    model = make_model(slots=1)
    written = yaml.safe_load(init_texts.write_suite(make_discovery("http://10.0.0.5:1", chosen=(model,)), model))
    assert written["grid"]["concurrency"] == [1]
    assert "overrides" not in written


def test_sizes_by_speed(folder: Path, llama: EmbeddedServer) -> None:
    assert run(llama.url, "--measure").return_value == 0
    output = read_suite("chat")["grid"]["output_tokens"][0]
    assert output <= 1024
    said = comment_on("suites/chat.boobench.yaml", "output_tokens")
    assert said == "leave room for prompts in 4096 tokens of context" or "tok/s that were seen" in said


def test_only_loaded_models_are_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "APART_MS", float("inf"))  # however late a busy machine makes the client's clock
    with KindServer(kinds.Ollama(("good", "embedder"), ("good",))) as server:
        result = run(server.url, "--measure")
        looked = run(server.url, "--dry-run")
    assert "  local: not measured: embedder is not loaded" in result.output.splitlines()
    assert read_suite("chat")["grid"]["output_tokens"] == [128]  # 31 tokens in 50 ms, hence 124 in 200
    assert comment_on("suites/chat.boobench.yaml", "output_tokens").endswith("tok/s that were seen")
    embeds = [seen for seen in server.seen if seen.target == "/api/embed"]
    assert not embeds
    assert looked.return_value == 0


def test_looking_loads_nothing(folder: Path) -> None:
    kinds_of_server: list[StandIn] = [
        kinds.Ollama(("good", "embedder")),
        kinds.LmStudio(("good", "embedder")),
        kinds.Router(("good", "my-embedder")),
    ]
    for stand_in in kinds_of_server:
        with KindServer(stand_in) as server:
            result = run(server.url, "--measure", "--force")
        assert result.return_value == 0
        assert not stand_in.loaded
        assert result.output.count("not measured: ") == 2
        assert comment_on("suites/chat.boobench.yaml", "- ") == "was not loaded when this was written"


def test_a_server_that_tells_nothing(folder: Path) -> None:
    with openai_server() as server:
        result = run(server.url, "--measure")
    assert "  local: not measured: good may not be loaded, which the server does not tell" in result.output.splitlines()
    assert {seen.method for seen in server.seen} == {"GET"}
    assert yaml.safe_load(Path("boobench.hosts.yaml").read_text())["hosts"]["local"]["shared"] is False
    suite = read_suite("chat")
    assert suite["models"] == ["good"]
    assert (suite["length"], "max_failed" in suite) == ("natural", False)
    assert "# - flaky" in Path("suites/chat.boobench.yaml").read_text().splitlines()
    where = comment_on("suites/chat.boobench.yaml", "prompt_tokens")
    assert where == "the server does not tell its context: 2176 tokens must fit"


def test_llama_swap(folder: Path, llama: EmbeddedServer) -> None:
    upstreams = {"org/Qwen3:Q4_K_M": llama.url, "bge-m3": llama.url, "bge-reranker-v2": llama.url}
    with LlamaSwapStandIn(upstreams) as swap:
        swap.set_state("bge-m3", "ready")
        result = run(swap.url, "--name", "rack-1")
        assert not swap.loads
    assert result.return_value == 0
    assert result.output.splitlines()[:2] == [
        f"rack-1: llama-swap b0-unknown + llama-swap 250 0bdb3720 at {swap.url}, 3 models",
        "  left out: 'bge-reranker-v2', which neither chats nor embeds, or cannot be in a test's name",
    ]
    assert read_suite("embedding")["models"] == ["bge-m3"]
    assert read_suite("chat")["models"] == ["org/Qwen3:Q4_K_M"]
    assert main(["check"]) == 0


def test_a_busy_host_is_not_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = kinds.fixed([{"id": 0, "is_processing": True, "id_task": 7}])
    pages = kinds.Router.pages
    monkeypatch.setattr(kinds.Router, "pages", lambda stand_in: {**pages(stand_in), "/slots": slots})
    with KindServer(kinds.Router(("one",), ("one",))) as server:
        result = run(server.url, "--measure")
    assert result.return_value == 0
    assert "  local: not measured: others use it now: " in result.output
    assert not [seen for seen in server.seen if "completions" in seen.target]


def test_a_key(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LLM_KEY", KEY)
    with locked_server() as server:
        assert main(["init", server.url]) == 1
        error = capsys.readouterr().err
        assert error.startswith("local: GET /v1/models: 401: the host wants a key; ")
        assert error.endswith("; boobench init --api-key-env NAME does so\n")
        assert main(["init", server.url, "--api-key-env", "LLM_KEY"]) == 0
    written = Path("boobench.hosts.yaml").read_text()
    assert yaml.safe_load(written)["hosts"]["local"]["api_key"] == "${LLM_KEY}"
    assert KEY not in written + "".join(capsys.readouterr())


@contextmanager
def locked_server() -> Iterator[FaultServer]:
    async def list_models(peer: Peer) -> None:
        if peer.request.headers.get("authorization") == f"Bearer {KEY}":
            await peer.answer("200 OK", {"data": [{"id": "good"}]})
        else:
            await peer.answer("401 Unauthorized", {"error": {"message": "no"}})

    async def refuse(peer: Peer) -> None:
        await peer.answer("404 Not Found", {})

    with FaultServer({"models": list_models, **dict.fromkeys(("props", "version", ""), refuse)}) as server:
        yield server


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (
            ["http://me:geheim@127.0.0.1:1"],
            "local.url: a url must not carry a user or a password; write api_key: ${NAME}",
        ),
        (["127.0.0.1:8080"], "local.url: expected a url such as http://10.0.0.5:9292, got '127.0.0.1:8080'"),
        (["http://[::1"], "local.url: expected a url such as http://10.0.0.5:9292, got 'http://[::1'"),
        (["http://127.0.0.1:1", "--name", "a[b]"], "a[b]: the name 'a[b]' holds '[', which a node id cannot carry"),
        (
            ["http://127.0.0.1:1", "--name", "embedded"],
            "embedded.url: the embedded server is started by us, on this machine; leave it out",
        ),
    ],
)
def test_wrong_use(folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], text: str) -> None:
    assert main(["init", *args]) == 2
    error = capsys.readouterr().err
    assert f"Error: {text}\n" in error
    assert "geheim" not in error


def test_a_server_out_of_reach(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    assert main(["init", url]) == 1
    assert capsys.readouterr().err.startswith(f"local: no answer from {url}: ")
    assert not list(folder.iterdir())


def test_a_server_without_a_model_for_us(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with KindServer(kinds.Vllm(("whisper-large", "x-rerank"))) as server:
        assert main(["init", server.url]) == 1
    assert capsys.readouterr().err == "local: no model there that chats or embeds; it lists whisper-large, x-rerank\n"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://localhost:8080", "local"),
        ("http://[::1]:8080", "local"),
        ("http://10.0.0.5:9292", "10.0.0.5"),
        ("http://[fe80::1]:9292", "fe80--1"),
        ("https://gpu-box.lan/llm", "gpu-box"),
        ("http://embedded.lan", "embedded-host"),
    ],
)
def test_names_of_hosts(url: str, name: str) -> None:
    from pytest_boobench.cli.init_command import name_host

    assert name_host(url) == name


MODEL = Chosen(name="qwen", kind="chat", told=False, ready=True, facts=ModelFacts(name="qwen"))


def make_model(speed: tuple[float | None, float | None] = (None, None), kind: Any = "chat", **facts: Any) -> Chosen:
    prompt, decode = speed
    return replace(MODEL, kind=kind, prompt_tok_s=prompt, decode_tok_s=decode, facts=ModelFacts(name="qwen", **facts))


@pytest.mark.parametrize(
    ("model", "prompts", "output", "lanes"),
    [
        (make_model(), (512, 2048), 128, (1, 4)),
        (make_model(n_ctx=2048), (512,), 128, (1, 4)),
        (make_model(n_ctx=512), (256,), 128, (1, 4)),
        (make_model(n_ctx=8192, n_ctx_train=1024), (512,), 128, (1, 4)),
        (make_model(n_ctx=16), (8,), 4, (1, 4)),
        (make_model(n_ctx=1), (1,), 1, (1, 4)),
        (make_model(n_ctx=32_768, slots=1), (512, 2048), 128, (1,)),
        (make_model(slots=2), (512, 2048), 128, (1, 2)),
        (make_model(n_ctx=32_768, slots=8), (512, 2048), 128, (1, 4)),
        (make_model(n_ctx=2048, slots=4), (512,), 128, (1, 3)),
        (make_model(n_ctx=256, slots=4), (128,), 64, (1,)),
        (make_model(n_ctx=64, slots=4), (32,), 16, (1,)),
        (replace(make_model(), ready=False), (512,), 128, (1, 4)),
        (make_model((3_000.0, 40.0), n_ctx=8192), (512, 2048), 32, (1, 4)),
        (make_model((20_000.0, 900.0), n_ctx=32_768), (2048, 8192), 256, (1, 4)),
        (make_model((100.0, 3.0)), (32, 128), 32, (1, 4)),
        (make_model(kind="embedding"), (128, 512), None, (1, 4)),
        (make_model((8_000.0, None), kind="embedding"), (512,), None, (1, 4)),
        (make_model(kind="embedding", n_ctx=8192, n_ctx_train=256), (128,), None, (1, 4)),
    ],
)
def test_sizes(model: Chosen, prompts: tuple[int, ...], output: int | None, lanes: tuple[int, ...]) -> None:
    sizes = choose_sizes(model)
    assert (sizes.prompt_tokens, sizes.output_tokens, sizes.concurrency) == (prompts, output, lanes)


@pytest.mark.parametrize(
    ("model", "too_long"),
    [
        (make_model(n_ctx=8192), ()),
        (make_model(n_ctx=8192, slots=1), ()),
        (make_model(n_ctx=8704, slots=4), ()),
        (make_model(n_ctx=8192, slots=4), (2048,)),
        (make_model(n_ctx=256, slots=4), ()),
        (make_model(kind="embedding", n_ctx=1024, slots=4), (512,)),
    ],
)
def test_what_slots_may_not_have_room_for(model: Chosen, too_long: tuple[int, ...]) -> None:
    assert choose_sizes(model).too_long == too_long


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("qwen3-8b", "qwen3-8b"),
        ("org/Qwen3:Q4_K_M", "org/Qwen3:Q4_K_M"),
        ("yes", '"yes"'),
        ("NULL", '"NULL"'),
        ("4o-mini", '"4o-mini"'),
        ("0o17", '"0o17"'),
        ('a "b": #c', '"a \\"b\\": #c"'),
        ("größe", '"größe"'),
    ],
)
def test_quoting(name: str, written: str) -> None:
    assert init_texts.quote(name) == written
    assert yaml.safe_load(written) == name


def make_discovery(url: str, **changed: Any) -> Discovery:
    facts: dict[str, Any] = {
        "host": Host(name="rack-1", base_url=url),
        "kind": "ollama",
        "version": None,
        "models": ("qwen",),
        "unusable": (),
        "chosen": (MODEL,),
        "fixed_length": False,
        "keeps_prefixes": False,
        "sees_others": False,
    }
    return Discovery(**{**facts, **changed})


@pytest.mark.parametrize(("keeps", "kind", "proposed"), [(True, "chat", 1), (False, "chat", 0), (True, "embedding", 0)])
def test_turns_are_proposed_where_a_prefix_cache_is_seen(keeps: bool, kind: Any, proposed: int) -> None:
    model = replace(MODEL, kind=kind)
    text = init_texts.write_suite(make_discovery("http://10.0.0.5:1", chosen=(model,), keeps_prefixes=keeps), model)
    assert text.count("\n# turns: 8 ") == proposed


def test_a_host_elsewhere_that_cannot_tell_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    from pytest_boobench.cli.init_command import say_what_next

    found = make_discovery("http://10.0.0.5:11434")
    text = init_texts.write_hosts("rack-1", "http://10.0.0.5:11434", None, found)
    assert "--boobench-takeover" in text
    assert yaml.safe_load(text) == {"hosts": {"rack-1": {"server": "ollama", "url": "http://10.0.0.5:11434"}}}
    assert "    # shared: false" in text
    say_what_next(found)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "ollama cannot tell whether others use it: say shared: false in the hosts file if nobody does"
    )


def test_where_the_page_is_not_installed_it_says_how(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_boobench.cli import init_command

    monkeypatch.setattr(init_command, "is_page_installed", lambda: False)
    init_command.say_what_next(make_discovery("http://127.0.0.1:8080"))
    lines = capsys.readouterr().out.splitlines()
    assert "the same in a browser, and a chat: pip install 'pytest-boobench[page]', then boobench page" in lines
    assert not any(line.startswith("  boobench page") for line in lines)


def test_many_other_models_are_not_all_listed() -> None:
    model = replace(MODEL, ready=None, others=tuple(f"model-{number}" for number in range(30)))
    lines = init_texts.write_suite(make_discovery("http://10.0.0.5:1", chosen=(model,)), model).splitlines()
    assert "# - model-19" in lines
    assert "# - model-20" not in lines
    assert "# … and 10 more: boobench hosts rack-1" in lines


@pytest.mark.parametrize(
    ("model", "depth"),
    [
        (make_model(), 8192),
        (make_model(n_ctx=32_768, slots=4), 4096),
        (make_model(n_ctx=32_768, slots=1), 8192),
        (make_model(n_ctx=4096, slots=1), 1024),
        (make_model(n_ctx=4096, slots=4), None),
        (make_model(kind="embedding"), None),
    ],
)
def test_a_depth_is_proposed_where_it_fits(tmp_path: Path, model: Chosen, depth: int | None) -> None:
    """As a comment, which makes a good suite without its sign."""
    found = make_discovery("http://10.0.0.5:1", chosen=(model,), kind="llama-server", keeps_depth=True)
    text = init_texts.write_suite(found, model)
    assert ("depth_tokens" in text) is (depth is not None)
    assert "depth_tokens" not in init_texts.write_suite(replace(found, keeps_depth=False), model)
    path = tmp_path / "x.boobench.yaml"
    path.write_text(text.replace("  # depth_tokens", "  depth_tokens"), encoding="utf-8")
    cells = suite.load(path, display="x", known_hosts=None).cells
    assert {cell.depth_tokens for cell in cells} == {0, depth or 0}


@pytest.mark.parametrize(
    ("options", "n_ctx", "slots"),
    [
        (["--ctx-size", "8192"], 8192, 4),
        (["--ctx-size", "8192", "--parallel", "2"], 4096, 2),
        (["--ctx-size", "8192", "--parallel", "2", "--kv-unified"], 8192, 2),
        (["--ctx-size", "0"], None, None),
        (["--parallel", "2"], None, None),
        (["--ctx-size"], None, None),
        (["--ctx-size", "9" * 5000], None, None),
        ({"--ctx-size": 8192}, None, None),
        (None, None, None),
    ],
)
def test_a_routers_model_that_is_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: Any, n_ctx: int | None, slots: int | None
) -> None:
    """Its context and slots are in the options that it will be started with."""
    entry = {"id": "one", "status": {"value": "unloaded", "args": options}}
    listed = kinds.fixed({"object": "list", "data": ["what", {"id": "two"}, entry]})
    pages = kinds.Router.pages
    monkeypatch.setattr(kinds.Router, "pages", lambda stand_in: {**pages(stand_in), "/models": listed})
    with KindServer(kinds.Router(("one",))) as server:
        assert run(server.url).return_value == 0
    said = comment_on("suites/chat.boobench.yaml", "prompt_tokens")
    room = f"{n_ctx} tokens of context have room for them"
    assert said == (room if n_ctx else "its context is not known before it is loaded: 2560 tokens must fit")
    assert read_suite("chat")["grid"]["concurrency"] == [1, min(slots or 4, 4)]


@pytest.mark.parametrize("listed", [None, [], "x", {"data": 7}, {"data": [{"id": "one", "status": []}]}])
def test_a_routers_list_of_any_shape(listed: object) -> None:
    assert find_options(listed, "one") == []


def test_a_llama_server_elsewhere_that_does_not_tell_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    from pytest_boobench.cli.init_command import say_what_next

    found = make_discovery("http://10.0.0.5:8080", kind="llama-server")
    lines = init_texts.write_hosts("rack-1", "http://10.0.0.5:8080", None, found).splitlines()
    assert lines[-2].endswith(
        "# take the # out if it is yours alone: the server cannot tell with --no-slots and without --metrics,"
    )
    say_what_next(found)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "llama-server cannot tell whether others use it with --no-slots and without --metrics: "
        "say shared: false in the hosts file if nobody does"
    )
