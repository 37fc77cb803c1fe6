"""vLLM's own ``vllm bench serve`` beside the plugin: the same server, lengths and lanes, in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.environment import Environment
from tests.real.report import median, middle, number, ratio, table
from tests.real.serving import Running
from tests.real.trying import Place, Session

TURNS = 5
REQUESTS = 24
PROMPT_TOKENS = 256
OUTPUT_TOKENS = 128
LANES = (1, 4)
MODEL = "tiny-qwen2"
SUITE = {
    "suite": "beside-vllm-bench",
    "models": [MODEL],
    "kind": "completion",
    "grid": {"prompt_tokens": [PROMPT_TOKENS], "output_tokens": [OUTPUT_TOKENS], "concurrency": list(LANES)},
    "sampling": {"temperature": 0.0},
    "samples": REQUESTS,
    "max_samples": 2 * REQUESTS,
    "gate": {"decode_tok_s": "10%", "ttft_ms": "50%"},
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of one turn at one number of lanes."""

    ttft_ms: float | None
    itl_ms: float | None
    decode_tok_s: float | None


@dataclass(frozen=True, slots=True)
class Turn:
    """One session of ours and one run of theirs, one after the other."""

    lanes: int
    session: Session
    ours: Figures
    theirs: Figures


def compare(made: Environment, model: Path, running: Running, folder: Path) -> Iterator[str]:
    """Ours and theirs in turns; then whether each of our verdicts was judged."""
    place = Place(folder / "beside")
    place.write({"url": running.url}, [SUITE])
    place.session("--boobench-save-baseline")
    turns: list[Turn] = []
    for lanes in LANES:
        for number_ in range(TURNS):
            turns.append(_take_turn(made, model, running, place, lanes, number_))
            print(f"{lanes} lanes: {turns[-1].ours}, vllm bench: {turns[-1].theirs}", file=sys.stderr, flush=True)
    yield from table(("lanes", "metric", "plugin", "vllm bench", "plugin against it"), [*_rows(turns)])
    yield from table(("lanes", "metric", "outcome", "sentence"), [*_verdicts(turns)])


def _take_turn(made: Environment, model: Path, running: Running, place: Place, lanes: int, number_: int) -> Turn:
    """Who is first changes, so that a machine that becomes slower or faster favours neither."""
    if number_ % 2:
        theirs = _run(made, model, running, place.folder.parent, lanes, seed=10 * number_ + lanes)
        session = place.session("-k", f"c{lanes}]")
    else:
        session = place.session("-k", f"c{lanes}]")
        theirs = _run(made, model, running, place.folder.parent, lanes, seed=10 * number_ + lanes)
    return Turn(lanes, session, _read(session.cells[0]), theirs)


def _read(cell: Mapping[str, Any]) -> Figures:
    return Figures(median(cell, "ttft_ms"), median(cell, "itl_ms"), median(cell, "decode_tok_s"))


def _run(made: Environment, model: Path, running: Running, folder: Path, lanes: int, seed: int) -> Figures:
    """Its per-token time is each request's own, so its inverse is our decode.

    No seed twice: it would make the same prompts, and vLLM would take them from its cache.
    """
    result = folder / f"vllm-bench-{lanes}-{seed}.json"
    command = [made.command("vllm"), "bench", "serve", "--backend", "openai", "--base-url", running.url]
    command += ["--model", MODEL, "--tokenizer", model, "--dataset-name", "random", "--ignore-eos"]
    command += ["--random-input-len", PROMPT_TOKENS, "--random-output-len", OUTPUT_TOKENS, "--temperature", 0]
    command += ["--num-prompts", REQUESTS, "--max-concurrency", lanes, "--num-warmups", lanes, "--seed", seed]
    command += ["--percentile-metrics", "ttft,tpot,itl,e2el", "--save-result", "--save-detailed", "--disable-tqdm"]
    command += ["--result-dir", folder, "--result-filename", result.name]
    variables = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*map(str, command)], env=variables, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"vllm bench serve: exit code {done.returncode}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    told = json.loads(result.read_text())
    return Figures(told["median_ttft_ms"], told["median_itl_ms"], 1000 / told["median_tpot_ms"])


def _rows(turns: Sequence[Turn]) -> Iterator[list[str]]:
    for lanes in LANES:
        own = [turn for turn in turns if turn.lanes == lanes]
        for metric in ("ttft_ms", "itl_ms", "decode_tok_s"):
            mine = [getattr(turn.ours, metric) for turn in own]
            other = [getattr(turn.theirs, metric) for turn in own]
            shown = [f"{number(middle(values))} ({', '.join(map(number, values))})" for values in (mine, other)]
            pairs = [one / two if one and two else None for one, two in zip(mine, other, strict=True)]
            yield [str(lanes), metric, *shown, ratio(middle(pairs), 1.0)]


def _verdicts(turns: Sequence[Turn]) -> Iterator[list[str]]:
    for turn in turns:
        for cell in turn.session.cells:
            said = [[verdict[key] for key in ("metric", "outcome", "sentence")] for verdict in cell["verdicts"]]
            said = said or [["all", cell["standing"], cell["error"] or cell["spoiled"] or ""]]
            yield from ([str(turn.lanes), *words] for words in said)
