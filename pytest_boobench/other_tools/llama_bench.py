"""Room 5: llama-bench's ``-o json`` and ``-o jsonl``: a test of prompt, generation or both, repetition by repetition.

https://github.com/ggml-org/llama.cpp/tree/master/tools/llama-bench
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pytest_boobench.facts import ModelFacts
from pytest_boobench.metrics import Kind, Sample
from pytest_boobench.other_tools.findings import Fields, Findings
from pytest_boobench.other_tools.result_file import ResultFile
from pytest_boobench.other_tools.tool_cells import Setting, ToolCell, ToolResults
from pytest_boobench.suite.names import shorten
from pytest_boobench.untrusted import clean_json

_USUAL: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "n_depth": ("d", (0,)),
    "type_k": ("ctk", ("f16",)),
    "type_v": ("ctv", ("f16",)),
    "n_gpu_layers": ("ngl", (-1, 99, 999)),
    "n_cpu_moe": ("ncmoe", (0,)),
    "n_batch": ("b", (2048,)),
    "n_ubatch": ("ub", (512,)),
    "n_threads": ("t", ()),
    "flash_attn": ("fa", (-1, 0)),
    "split_mode": ("sm", ("layer",)),
    "main_gpu": ("mg", (0,)),
    "no_kv_offload": ("nkvo", (False,)),
    "devices": ("dev", ("auto", "none", "")),
    "tensor_split": ("ts", ("0.00", "")),
    "tensor_buft_overrides": ("ot", ("none", "")),
    "use_mmap": ("mmp", (True,)),
    "load_mode": ("lm", ("auto", "mmap")),
    "lazy_mode": ("lazy", ("auto",)),
    "embeddings": ("embd", (False,)),
    "no_op_offload": ("nopo", (0, False)),
    "no_host": ("nohost", (False,)),
    "repack": ("repack", (True,)),
    "cpu_mask": ("mask", ("0x0", "")),
    "cpu_strict": ("strict", (False,)),
    "poll": ("poll", (50,)),
    "fit_target": ("fitt", (0,)),
    "fit_min_ctx": ("fitc", (0,)),
}
"""Setting -> its sign in ids, and its usual values: those that are left out of what a cell is, so that a build which
does not know a setting yet, or has another default for all of the model, is compared with one that does."""


def is_ours(first: Mapping[str, Any]) -> bool:
    """Whether a file that begins with this object is llama-bench's."""
    return {"n_prompt", "n_gen"} <= first.keys() and bool({"samples_ns", "avg_ts", "build_commit"} & first.keys())


def read(file: ResultFile, findings: Findings) -> ToolResults:
    """All tests of a file."""
    tests = file.objects(findings)
    names = shorten(_name_model(test) for test in tests)
    unsure = _find_unsure(tests)
    cells = tuple(cell for test in tests if (cell := _read_test(test, names, unsure)) is not None)
    cpus = [cpu for test in tests if (cpu := test.text("cpu_info"))]
    told = {
        name: dict.fromkeys(text for test in tests if (text := test.text(name))) for name in ("gpu_info", "backends")
    }
    metadata = {name: ", ".join(texts) for name, texts in told.items() if texts}
    return ToolResults(cells=cells, cpu=cpus[0] if cpus else None, metadata=metadata)


def _name_model(test: Fields) -> str:
    return test.text("model_filename") or test.text("model_type") or "model"


def _find_unsure(tests: Sequence[Fields]) -> frozenset[str]:
    """Settings of which a file has several usual values: there none of them goes without saying."""
    found = {
        name: {value for test in tests if (value := _read_setting(test, name)) in usual}
        for name, (_, usual) in _USUAL.items()
    }
    return frozenset(name for name, values in found.items() if len(values) > 1)


def _read_test(test: Fields, names: Mapping[str, str], unsure: Collection[str]) -> ToolCell | None:
    prompt, output = test.count("n_prompt") or 0, test.count("n_gen") or 0
    if not prompt and not output:
        test.leave_out("n_prompt and n_gen are both 0 or missing, expected a test of prompt, generation or both")
        return None
    embeds = test.source.get("embeddings") is True and not output
    kind: Kind = "embedding" if embeds else "completion"
    started_at = _read_time(test)
    samples = tuple(_read_samples(test, prompt, output, started_at or 0.0, embeds=embeds))
    if not samples:
        return None
    path = _name_model(test)
    return ToolCell(
        place=test.where,
        model=names[path],
        kind=kind,
        # a test of generation alone begins with one token
        prompt_tokens=prompt or 1,
        asked_prompt=prompt > 0,
        output_tokens=output or None,
        generates=output > 0,
        concurrency=1,
        cache="cold",
        length="exact",
        settings=_list_settings(test, unsure),
        started_at=started_at,
        samples=samples,
        engine_build=_read_build(test),
        facts=ModelFacts(
            name=names[path], path=path, n_params=test.count("model_n_params"), size_bytes=test.count("model_size")
        ),
    )


def _read_samples(test: Fields, prompt: int, output: int, at: float, *, embeds: bool) -> Iterator[Sample]:
    times = test.numbers("samples_ns")
    if not times:
        test.leave_out("samples_ns is missing or empty, expected the nanoseconds of each repetition")
    for index, time_ns in enumerate(time for time in times if time is not None):
        time_ms = time_ns / 1e6
        yield Sample(
            phase="measure",
            lane=0,
            index=index,
            started_at=at,
            offset_ms=0.0,
            prompt_tokens=prompt or None,
            output_tokens=output or None,
            **_find_numbers(prompt, output, time_ms, embeds=embeds),
        )


def _find_numbers(prompt: int, output: int, time_ms: float, *, embeds: bool) -> dict[str, Any]:
    """What one repetition says: of both together only the time, since nobody timed their border."""
    if prompt and output:
        return {"e2e_ms": time_ms}
    if embeds:
        return {"e2e_ms": time_ms, "embed_tok_s": prompt / time_ms * 1000, "rate_source": "server"}
    if prompt:
        return {"prompt_ms": time_ms, "prefill_tok_s": prompt / time_ms * 1000, "rate_source": "server"}
    return {"predicted_ms": time_ms, "decode_tok_s": output / time_ms * 1000, "rate_source": "server"}


def _list_settings(test: Fields, unsure: Collection[str]) -> Mapping[str, Setting]:
    found = {}
    for name, (sign, usual) in _USUAL.items():
        value = _read_setting(test, name)
        if value is not None and (value not in usual or name in unsure):
            found[name] = Setting(sign, value)
    return found


def _read_setting(test: Fields, name: str) -> str | float | None:
    value = clean_json(test.source.get(name))
    return value if isinstance(value, str | int | float) else None


def _read_time(test: Fields) -> float | None:
    text = test.text("test_time")
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        test.leave_out(f"test_time is {text}, expected a time such as 2026-11-24T09:30:00Z")
        return None


def _read_build(test: Fields) -> str | None:
    """As llama-server names its build: ``b11549-abc1234``."""
    number, commit = test.count("build_number"), test.text("build_commit")
    known = commit if commit not in (None, "unknown") else ""
    return "-".join(filter(None, (f"b{number}" if number else "", known or ""))) or None
