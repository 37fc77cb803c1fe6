"""Other tools, run by their own command lines against an OpenAI-compatible server, and what they report."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.stage import provide_environment

_BOOK = "http://127.0.0.1:9/book"
"""Nothing answers there: llama-benchy finds the text in its cache."""


@dataclass(frozen=True, slots=True)
class Job:
    """``rounds`` times ``streams`` requests at once."""

    url: str
    model: str
    prompt_tokens: int
    output_tokens: int
    streams: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Reported:
    """What a tool says of a job, one value per request, and what it cost."""

    ttft_ms: Sequence[float]
    itl_ms: Sequence[float]
    """Each request's mean time between tokens."""
    wall_s: float
    """The whole command."""
    cpu_s: float


def run_llama_benchy(job: Job, folder: Path) -> Reported:
    """llama-benchy 0.4: batches with a barrier between them, two warm-up requests and one dropped batch."""
    result = folder / "result.json"
    _write_tokenizer(folder / "tokenizer.json")
    _write_book(folder)
    command = ["llama-benchy", "--base-url", f"{job.url}/v1", "--model", job.model, "--tokenizer", str(folder)]
    command += ["--book-url", _BOOK, "--pp", str(job.prompt_tokens), "--tg", str(job.output_tokens), "--exact-tg"]
    command += ["--runs", str(job.rounds), "--concurrency", str(job.streams), "--no-cache", "--skip-coherence"]
    command += ["--latency-mode", "none", "--format", "json", "--save-result", str(result)]
    wall_s, cpu_s = _run("llama-benchy", command, folder)
    told = json.loads(result.read_text())["benchmarks"][0]
    rates_tok_s = told["tg_req_throughput"]["values"]
    return Reported(told["e2e_ttft"]["values"], [1000 / rate for rate in rates_tok_s], wall_s, cpu_s)


def run_llm_grill(job: Job, folder: Path) -> Reported:
    """llm-grill 0.1: a closed loop per user, no warm-up."""
    scenario, result = folder / "scenario.yaml", folder / "result.jsonl"
    message = {"role": "user", "content": "x" * job.prompt_tokens}
    fields: dict[str, Any] = {
        "name": "truth",
        "backends": [{"name": "here", "url": job.url, "type": "llamacpp"}],
        "models": [{"name": job.model, "max_tokens": job.output_tokens}],
        "conversations": [{"name": "one", "unique_prefix": True, "turns": [message]}],
        "targets": [{"backend": "here", "model": job.model, "conversation": "one"}],
        "load": {"concurrent_users": job.streams, "iterations": job.rounds},
    }
    scenario.write_text(json.dumps(fields))  # JSON is YAML
    wall_s, cpu_s = _run("llm-grill", ["llm-grill", "run", str(scenario), "--quiet", "-o", str(result)], folder)
    told = [json.loads(line) for line in result.read_text().splitlines()]
    good = [one for one in told if one["success"]]
    return Reported([one["ttft_s"] * 1000 for one in good], [one["tpot_s"] * 1000 for one in good], wall_s, cpu_s)


PEERS: Mapping[str, Callable[[Job, Path], Reported]] = {"llama-benchy": run_llama_benchy, "llm-grill": run_llm_grill}
NOT_RUN: Mapping[str, str] = {
    "guidellm": "it installs 6 GB, and is not driven here",
    "aiperf": "it installs 1.2 GB, and is not driven here",
}
"""Tools that are asked for by name and not driven here, with the reason."""


def run_peer(name: str, job: Job) -> Reported:
    """Runs a tool of ``PEERS``; RuntimeError with the end of its words where it fails."""
    provide_environment(name)
    with tempfile.TemporaryDirectory(prefix=f"boobench-{name}-") as folder:
        return PEERS[name](job, Path(folder))


def _run(name: str, command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command of a tool's environment; ``folder`` is its home."""
    program = provide_environment(name).with_name(command[0])
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ = {**ours, "HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, env=environ, check=False)
    wall_s = time.monotonic() - began_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{name}: exit code {done.returncode}: {(done.stderr or done.stdout)[-500:].strip()}")
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _write_tokenizer(path: Path) -> None:
    """One printable ASCII character is one token, as the embedded host's models and the truth server count."""
    characters = [chr(code) for code in range(32, 127)] + ["\n"]
    model = {"type": "WordLevel", "vocab": {c: number for number, c in enumerate(characters)}, "unk_token": " "}
    split = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
    nothing = {"truncation": None, "padding": None, "normalizer": None, "post_processor": None}
    fields: dict[str, Any] = {"version": "1.0", **nothing, "added_tokens": [], "pre_tokenizer": split, "model": model}
    path.write_text(json.dumps({**fields, "decoder": {"type": "Fuse"}}))


def _write_book(home: Path) -> None:
    cache = home / ".cache" / "llama-benchy"
    cache.mkdir(parents=True)
    name = hashlib.md5(_BOOK.encode(), usedforsecurity=False).hexdigest()
    (cache / f"{name}.txt").write_text("the quick brown fox jumps over the lazy dog " * 1000)
