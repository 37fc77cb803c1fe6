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
_BOOK_CHARACTERS = 600_000
"""As long as the book that it takes where nobody names another, The Adventures of Sherlock Holmes; it is read and
tokenised anew at each start."""
_TOKENIZER = "boobench/characters"
_REVISION = "0" * 40
_HUB = "hub"


@dataclass(frozen=True, slots=True)
class Job:
    """``rounds`` times ``streams`` requests at once."""

    url: str
    model: str
    prompt_tokens: int
    output_tokens: int
    streams: int
    rounds: int

    @property
    def requests(self) -> int:
        """All of them together."""
        return self.streams * self.rounds


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
    _write_tokenizer(folder)
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


def run_guidellm(job: Job, folder: Path) -> Reported:
    """guidellm 0.8: up to ten workers, a closed loop per stream, no warm-up. Its TTFT leaves the connecting out."""
    scenario, result = folder / "scenario.json", folder / "result.json"
    _write_tokenizer(folder)
    lengths = {"prompt_tokens": job.prompt_tokens, "output_tokens": job.output_tokens}
    no_cache = {"body": {"cache_prompt": False}}
    spec: dict[str, Any] = {
        "backend": {"kind": "openai_http", "target": job.url, "model": job.model, "extras": no_cache},
        "profile": {"kind": "concurrent", "streams": job.streams},
        "constraints": [{"kind": "max_requests", "count": job.requests}],
        "tokenizer": {"kind": "huggingface_auto", "model": str(folder)},
        "data": [{"kind": "synthetic_text", **lengths}],
        "data_loader": {"kind": "pytorch", "prefetch_factor": job.requests},  # else 4096 prompts are made
        "outputs": [{"kind": "json", "path": str(result)}],
    }
    scenario.write_text(json.dumps({"spec": spec}))
    wall_s, cpu_s = _run("guidellm", ["guidellm", "run", "--config", str(scenario), "--disable-console"], folder)
    good = json.loads(result.read_text())["benchmarks"][0]["requests"]["successful"]
    ttft_ms = [one["time_to_first_token_ms"] for one in good]
    return Reported(ttft_ms, [one["inter_token_latency_ms"] for one in good], wall_s, cpu_s)


def run_aiperf(job: Job, folder: Path) -> Reported:
    """aiperf 0.13: a process each for workers, records, timing and more, a closed loop per stream, no warm-up."""
    results = folder / "results"
    _write_hub(folder)
    command = ["aiperf", "profile", "--url", job.url, "--model", job.model, "--tokenizer", _TOKENIZER, "--streaming"]
    command += ["--isl", str(job.prompt_tokens), "--osl", str(job.output_tokens), "--use-server-token-count"]
    command += ["--extra-inputs", "ignore_eos:true", "--extra-inputs", "cache_prompt:false"]
    command += ["--concurrency", str(job.streams), "--request-count", str(job.requests)]
    command += ["--num-dataset-entries", str(job.requests), "--output-artifact-dir", str(results)]
    command += ["--no-gpu-telemetry", "--no-server-metrics", "--ui", "none"]
    wall_s, cpu_s = _run("aiperf", command, folder)
    told = [json.loads(line) for line in (results / "profile_export.jsonl").read_text().splitlines()]
    good = [one["metrics"] for one in told if "error" not in one]
    ttft_ms = [one["time_to_first_token"]["value"] for one in good]
    return Reported(ttft_ms, [one["inter_token_latency"]["value"] for one in good], wall_s, cpu_s)


PEERS: Mapping[str, Callable[[Job, Path], Reported]] = {
    "llama-benchy": run_llama_benchy,
    "llm-grill": run_llm_grill,
    "guidellm": run_guidellm,
    "aiperf": run_aiperf,
}


def run_peer(name: str, job: Job) -> Reported:
    """Runs a tool of ``PEERS``; RuntimeError with the end of its words where it fails, or where no request came whole.

    Some tools end well when all their requests failed.
    """
    provide_environment(name)
    with tempfile.TemporaryDirectory(prefix=f"boobench-{name}-") as folder:
        reported = PEERS[name](job, Path(folder))
    if not reported.ttft_ms:
        raise RuntimeError(f"{name}: none of its {job.requests} requests came whole")
    return reported


def _run(name: str, command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command of a tool's environment; ``folder`` is its home."""
    program = provide_environment(name).with_name(command[0])
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ = {**ours, "HOME": str(folder), "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / _HUB)}
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, env=environ, check=False)
    wall_s = time.monotonic() - began_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{name}: exit code {done.returncode}: {(done.stderr or done.stdout)[-500:].strip()}")
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _write_tokenizer(folder: Path) -> None:
    """One printable ASCII character is one token, as the embedded host's models and the truth server count.

    Two files: all that ``transformers`` needs of a model's folder.
    """
    characters = [chr(code) for code in range(32, 127)] + ["\n"]
    model = {"type": "WordLevel", "vocab": {c: number for number, c in enumerate(characters)}, "unk_token": " "}
    split = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
    nothing = {"truncation": None, "padding": None, "normalizer": None, "post_processor": None}
    fields: dict[str, Any] = {"version": "1.0", **nothing, "added_tokens": [], "pre_tokenizer": split, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps({**fields, "decoder": {"type": "Fuse"}}))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))


def _write_hub(home: Path) -> None:
    """The tokenizer as the Hugging Face hub's cache would hold it: offline, aiperf takes none from a folder."""
    model = home / _HUB / f"models--{_TOKENIZER.replace('/', '--')}"
    snapshot = model / "snapshots" / _REVISION
    snapshot.mkdir(parents=True)
    _write_tokenizer(snapshot)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(_REVISION)


def _write_book(home: Path) -> None:
    cache = home / ".cache" / "llama-benchy"
    cache.mkdir(parents=True)
    name = hashlib.md5(_BOOK.encode(), usedforsecurity=False).hexdigest()
    sentence = "the quick brown fox jumps over the lazy dog "
    (cache / f"{name}.txt").write_text(sentence * (_BOOK_CHARACTERS // len(sentence)))
