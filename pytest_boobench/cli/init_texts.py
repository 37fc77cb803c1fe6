"""Door 2: the files that ``boobench init`` writes, with comments that teach."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_boobench.cli.init_discovery import Chosen, Discovery
from pytest_boobench.metrics import Kind
from pytest_boobench.units import quantity

_PROMPT_MS, _OUTPUT_MS = 100, 200
"""Shorter prompts and outputs scatter too much for a gate."""
_DEFAULT_PROMPT_TOKENS: dict[Kind, int] = {"chat": 512, "embedding": 128}
"""Where no speed was measured."""
_LONGEST_PROMPT: dict[Kind, int] = {"chat": 8192, "embedding": 512}
"""Tokens; llama.cpp embeds no more than 512 unless it is started with larger batches."""
_LONGER = 4
"""How many times as long the second prompt is."""
_OUTPUT_TOKENS = 128
_LANES = 4
_DEPTH_TOKENS, _LEAST_DEPTH = 8192, 256
"""The longest context before a prompt that is proposed, and the shortest."""
_SHOWN = 20
"""Other models that are listed in the suite, as comments."""
_GIVE_PROBABILITIES = ("embedded", "llama-server", "llama-router", "llama-swap", "vllm")
"""Kinds of server that can be asked for ``quality``."""
_COLUMN = 38
"""Where comments begin."""
_PLAIN = re.compile(
    r"(?!(?:true|false|null|yes|no|on|off|y|n)\Z)[A-Za-z][\w./-]*(?::[\w./-]+)*", re.IGNORECASE | re.ASCII
)
"""Texts that need no quotes in any version of YAML."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The grid of a suite, and the reasons for it in words."""

    prompt_tokens: tuple[int, ...]
    prompt_reason: str
    output_tokens: int | None
    """None for embeddings."""
    output_reason: str
    concurrency: tuple[int, ...]
    lanes_reason: str
    depth_tokens: int
    """A context before the prompts that all lanes have room for; 0: there is none."""
    too_long: tuple[int, ...]
    """Prompts of which several at once may not fit. llama.cpp's slots share one context where their number is not
    given, and the server does not tell whether they do."""


def choose_sizes(model: Chosen) -> Sizes:
    """The grid for a model's first suite."""
    output, output_reason = (None, "") if model.kind == "embedding" else _choose_output(model)
    prompts, prompt_reason = _choose_prompts(model, output or 0)
    slots = _LANES if model.facts.slots is None else min(_LANES, model.facts.slots)
    shared = None if model.facts.slots is None else model.facts.n_ctx
    lanes = max(1, min(slots, shared // (prompts[0] + (output or 0)))) if shared else slots
    too_long = (length for length in prompts if lanes > 1 and shared and lanes * (length + (output or 0)) > shared)
    return Sizes(
        prompt_tokens=prompts,
        prompt_reason=prompt_reason,
        output_tokens=output,
        output_reason=output_reason,
        concurrency=(1, lanes) if lanes > 1 else (1,),
        lanes_reason="requests in flight at once" if lanes == slots else f"more may not fit into {shared} tokens",
        depth_tokens=0 if model.kind == "embedding" else _choose_depth(model, lanes, prompts[-1] + (output or 0)),
        too_long=tuple(too_long),
    )


def _choose_depth(model: Chosen, lanes: int, request_tokens: int) -> int:
    """A power of two that fits beside a request, even where the slots share one context."""
    if model.facts.n_ctx is None:
        return _DEPTH_TOKENS
    room = model.facts.n_ctx // lanes - request_tokens
    depth = min(_DEPTH_TOKENS, 1 << (room.bit_length() - 1)) if room > 0 else 0
    return depth if depth >= _LEAST_DEPTH else 0


def _choose_output(model: Chosen) -> tuple[int, str]:
    speed = model.decode_tok_s
    if speed is None:
        wanted, reason = _OUTPUT_TOKENS, f"should take {_OUTPUT_MS} ms or more: boobench init --measure finds out"
    else:
        wanted = _round_up(_OUTPUT_MS / 1000 * speed)
        reason = f"take {quantity(wanted / speed * 1000, 'ms')} at the {quantity(speed, 'tok/s')} that were seen"
    n_ctx = model.facts.n_ctx
    if n_ctx is not None and wanted > n_ctx // 4:
        return max(1, n_ctx // 4), f"leave room for prompts in {n_ctx} tokens of context"
    return wanted, reason


def _choose_prompts(model: Chosen, output_tokens: int) -> tuple[tuple[int, ...], str]:
    """One length, and a longer one where there is room for it."""
    speed, n_ctx = model.prompt_tok_s, model.facts.n_ctx
    base = _DEFAULT_PROMPT_TOKENS[model.kind] if speed is None else _round_up(_PROMPT_MS / 1000 * speed)
    if n_ctx is None and model.ready is False:
        together = _LANES * (base + output_tokens)
        return (base,), f"its context is not known before it is loaded: {together} tokens must fit"
    contexts = [context for context in (n_ctx, model.facts.n_ctx_train) if context is not None]
    room = min([_LONGEST_PROMPT[model.kind], *(max(1, context - output_tokens) for context in contexts)])
    # Where neither fits: the power of two below.
    lengths = tuple(length for length in (base, _LONGER * base) if length <= room) or (1 << (room.bit_length() - 1),)
    if n_ctx is None:
        return lengths, f"the server does not tell its context: {lengths[-1] + output_tokens} tokens must fit"
    return lengths, f"{n_ctx} tokens of context have room for them"


def _round_up(tokens: float) -> int:
    """The next power of two, 32 at least."""
    return int(2 ** math.ceil(math.log2(max(32.0, tokens))))


PYTEST_INI = """\
[pytest]
# boobench: this file makes its folder pytest's rootdir; boobench.hosts.yaml and .boobench/store.db stand beside it.
# boobench_baseline = main
# boobench_max_drop = 10%
"""


def write_hosts(name: str, url: str, variable: str | None, found: Discovery | None = None) -> str:
    """The text of a hosts file with one host, as far as it is known; ``variable`` holds its key."""
    return "\n".join(_list_host_lines(name, url, variable, found)) + "\n"


def _list_host_lines(name: str, url: str, variable: str | None, found: Discovery | None) -> Iterator[str]:
    yield "# Which servers there are; suites call them by these names. The only file with addresses in it."
    yield "hosts:"
    yield f"  {quote(name)}:"
    if found is not None:
        kind = "llama-server" if found.kind == "llama-router" else found.kind
        yield _line(f"    server: {kind}", "may be left out: then it is found out each time")
    yield _line(f"    url: {quote(url)}", "without /v1")
    if variable:
        yield _line(f"    api_key: ${{{variable}}}", "name of the environment variable that holds the key")
    else:
        yield _line("    # api_key: ${MY_KEY}", "name of an environment variable; the key itself never stands here")
    if found is None or found.sees_others:
        yield _line("    # shared: false", "yours alone: nobody is looked for before a cell")
        return
    cannot = f"the server cannot tell{name_blindness(found)}"
    if found.host.local:
        yield _line("    shared: false", f"on this machine, so taken as yours alone: {cannot}")
    else:
        yield _line("    # shared: false", f"take the # out if it is yours alone: {cannot},")
        yield _line("", "and without this line a bench needs --boobench-takeover")


def name_blindness(found: Discovery) -> str:
    """The flags that keep a llama-server from telling whether others use it; empty for other kinds of server."""
    return " with --no-slots and without --metrics" if found.kind in ("llama-server", "llama-router") else ""


def write_suite(found: Discovery, model: Chosen) -> str:
    """The text of a suite for one of the models."""
    return "\n".join(_list_suite_lines(found, model, choose_sizes(model))) + "\n"


def _list_suite_lines(found: Discovery, model: Chosen, sizes: Sizes) -> Iterator[str]:
    lanes = sizes.concurrency[-1]
    lengths = "Short and long prompts" if len(sizes.prompt_tokens) > 1 else "One length of prompt"
    yield "# A first suite, written by boobench init. All fields: boobench manual suites. Mistakes: boobench check."
    yield _line(f"suite: {model.kind}", "unique name; the store knows the suite by it, so keep it")
    yield f"description: {lengths}, alone{f' and {lanes} at a time' if lanes > 1 else ''}."
    yield f"hosts: [{quote(found.host.name)}]"
    yield "models:"
    yield _line(f"- {quote(model.name)}", _describe_state(model))
    yield from (f"# - {quote(other)}" for other in model.others[:_SHOWN])
    if len(model.others) > _SHOWN:
        yield f"# … and {len(model.others) - _SHOWN} more: boobench hosts {found.host.name}"
    guessed = "" if model.told else "guessed by the model's name; chat | completion | embedding"
    yield _line(f"kind: {model.kind}", guessed)
    yield _line("grid:", "every list is an axis, every combination one test")
    yield _line(f"  prompt_tokens: {list(sizes.prompt_tokens)}", sizes.prompt_reason)
    if sizes.output_tokens is not None:
        yield _line(f"  output_tokens: [{sizes.output_tokens}]", sizes.output_reason)
    yield _line(f"  concurrency: {list(sizes.concurrency)}", sizes.lanes_reason)
    if found.keeps_depth and sizes.depth_tokens:
        yield _line(
            f"  # depth_tokens: [0, {sizes.depth_tokens}]", "speed behind so much context, which the cache keeps"
        )
    if model.kind != "embedding":
        yield _line("sampling: {temperature: 0.0, seed: 42}", "sent as written, and nothing else is")
    yield _line("cache: cold", "no cached prompt token may be reused; warm: it may")
    if model.kind == "chat" and found.keeps_prefixes:
        yield _line("# turns: 8", "conversations that grow, each turn with its own TTFT: boobench manual turns")
    yield _line("samples: 12", "requests per test; a multiple of the concurrency")
    yield _line("# rate: [1, 2]", "instead of concurrency: requests per second, as users send them")
    if model.kind != "embedding" and not found.fixed_length:
        yield _line("length: natural", "this server cannot be told to go on: answers end where the model ends them")
    if model.kind == "embedding":
        yield _line("gate: {embed_tok_s: 10%}", "red where it is more than 10 % below the stored baseline")
    else:
        several = ", of several lanes decode or the end-to-end time" if lanes > 1 else ""
        yield _line("# gate: {decode_tok_s: 10%}", "left out: red where prefill or decode is more than 10 % below the")
        yield _line("", f"stored baseline{several}")
    if model.kind != "embedding" and found.kind in _GIVE_PROBABILITIES:
        yield _line("# quality: kld", "red too where the model no longer says the same: boobench manual quality")
    yield from _list_overrides(model, sizes, lanes)


def _list_overrides(model: Chosen, sizes: Sizes, lanes: int) -> Iterator[str]:
    """Lines for the cells of several lanes that need other values."""
    embeds = lanes > 1 and model.kind == "embedding"
    if embeds or sizes.too_long:
        yield "overrides:"
    if embeds:
        yield _line(f"- where: {{concurrency: {lanes}}}", "prompts of several lanes wait for each other,")
        yield _line("  gate: {embed_tok_s: 30%}", "now more and now less")
    if sizes.too_long:
        where = f"- where: {{concurrency: {lanes}, prompt_tokens: {list(sizes.too_long)}}}"
        yield _line(where, "take these two lines out if each slot has a context of its own")
        yield f"  marks: [{{skip: {lanes} at once may not fit into {model.facts.n_ctx} tokens that slots may share}}]"


def _describe_state(model: Chosen) -> str:
    if model.ready is None:
        return "the server does not tell which models are loaded"
    return "loaded when this was written" if model.ready else "was not loaded when this was written"


def _line(text: str, comment: str) -> str:
    return f"{text:<{_COLUMN}} # {comment}" if comment else text


def quote(text: str) -> str:
    """A text as a YAML scalar that every reader takes for that text."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
