"""llama-cpp-python's own server on the embedded host's model: ``python -m tests.real.llama_cpp_python``.

The package is compiled where it is installed: half an hour on two cores. Its server answers one request at a time, and
tells neither timings nor, while it streams, how many tokens it counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_boobench.hosts.embedded import EmbeddedSettings, provide_model
from tests.real.course import first_steps, judge_twice
from tests.real.environment import Environment, provide, read_options
from tests.real.report import show_place, tell
from tests.real.serving import Running, find_port, serve
from tests.real.transcript import Question, record

PACKAGES = ("llama-cpp-python[server]==0.3.36",)
_CONTEXT = 4096
_LIGHT = EmbeddedSettings(layers=4, width=256, feed_forward=512)
_MODEL = "tiny-chat"
_ASK = {"model": _MODEL, "messages": [{"role": "user", "content": "hello abc"}], "max_tokens": 8, "stream": True}
_TEXT = {"model": _MODEL, "prompt": "hello abc", "max_tokens": 8, "stream": True}
_USAGE = {"stream_options": {"include_usage": True}}
QUESTIONS = (
    Question("/v1/models"),
    Question("/health"),
    Question("/props"),
    Question("/version"),
    Question("/v1/chat/completions", {**_ASK, **_USAGE}),
    Question("/v1/chat/completions", _ASK),
    Question("/v1/chat/completions", {**_ASK, "stream": False}),
    Question("/v1/completions", {**_TEXT, **_USAGE}),
    Question("/v1/completions", {**_TEXT, "stream": False}),
    Question("/v1/completions", {**_TEXT, "prompt": [101, 102, 103], "stream": False}),
    Question("/v1/chat/completions", {**_ASK, "model": "no-such-model"}),
    Question("/v1/chat/completions", {**_ASK, "messages": [{"role": "user", "content": "a" * 2 * _CONTEXT}]}),
    Question("/v1/embeddings", {"model": _MODEL, "input": "hello abc"}),
    Question("/extras/tokenize", {"model": _MODEL, "input": "hello abc"}),
    Question("/extras/tokenize/count", {"model": _MODEL, "input": "hello abc"}),
)
SUITE = {
    "suite": "real",
    "models": [_MODEL],
    "grid": {"prompt_tokens": [256], "output_tokens": [96], "concurrency": [1, 4]},
    "sampling": {"temperature": 0.0, "seed": 42},
    "samples": 12,
}


@contextmanager
def python_server(made: Environment, folder: Path) -> Iterator[Running]:
    """``python -m llama_cpp.server``; with a chat template, since it cannot answer a prompt of no tokens."""
    port = find_port()
    model = provide_model(_LIGHT)
    command = [made.python, "-m", "llama_cpp.server", "--model", model, "--model_alias", _MODEL, "--n_ctx", _CONTEXT]
    command += [
        "--chat_format",
        "chatml",
        "--n_threads",
        1,
        "--n_threads_batch",
        1,
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    with serve([*map(str, command)], port, folder / "llama-cpp-python.log", ready="/v1/models") as up:
        yield up


def main() -> None:
    """The command line."""
    options = read_options(__doc__)
    made = provide(options.env, "llama-cpp-python", PACKAGES)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        with python_server(made, folder) as running:
            if options.transcripts:
                record(
                    running.url,
                    QUESTIONS,
                    options.transcripts / "llama-cpp-python.txt",
                    {str(made.folder): "ENVIRONMENT"},
                )
            tell(show_place({"llama-cpp-python": made.version("llama-cpp-python")}))
            tell(first_steps(folder, running))
            tell(judge_twice(folder, {"url": running.url, "shared": False}, [SUITE]))


if __name__ == "__main__":
    main()
