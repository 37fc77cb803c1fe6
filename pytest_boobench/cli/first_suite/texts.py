"""Door 2: the files that ``boobench init`` writes, with comments that teach."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from pytest_boobench.cli.first_suite.discovery import Chosen, Discovery
from pytest_boobench.cli.first_suite.sizes import Sizes, choose_sizes

_PLAIN = re.compile(
    r"(?!(?:true|false|null|yes|no|on|off|y|n)\Z)[A-Za-z][\w./-]*(?::[\w./-]+)*", re.IGNORECASE | re.ASCII
)
"""What YAML takes for a text without quotes, whichever version of YAML."""
_COLUMN = 38
_SHOWN = 20
"""So many other models stand in the suite, taken out."""

PYTEST_INI = """\
[pytest]
# boobench: this file makes its folder pytest's rootdir; boobench.hosts.yaml and .boobench/store.db stand beside it.
# boobench_baseline = main
# boobench_max_drop = 10%
"""


def write_hosts(name: str, url: str, variable: str | None, found: Discovery | None = None) -> str:
    """The text of a hosts file with one host, as far as it is known."""
    return "\n".join(_hosts(name, url, variable, found)) + "\n"


def _hosts(name: str, url: str, variable: str | None, found: Discovery | None) -> Iterator[str]:
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
    """The flags by which a server that could tell whether others use it cannot; empty for the other kinds."""
    return " with --no-slots and without --metrics" if found.kind in ("llama-server", "llama-router") else ""


def write_suite(found: Discovery, model: Chosen) -> str:
    """The text of a suite for one of the models."""
    return "\n".join(_suite(found, model, choose_sizes(model))) + "\n"


def _suite(found: Discovery, model: Chosen, sizes: Sizes) -> Iterator[str]:
    yield "# A first suite, written by boobench init. Every field: the README; mistakes: boobench check."
    yield _line(f"suite: {model.kind}", "unique name; the store knows the suite by it, so keep it")
    yield f"description: {_describe(sizes)}"
    yield f"hosts: [{quote(found.host.name)}]"
    yield "models:"
    yield _line(f"- {quote(model.name)}", _state(model))
    yield from (f"# - {quote(other)}" for other in model.others[:_SHOWN])
    if len(model.others) > _SHOWN:
        yield f"# … and {len(model.others) - _SHOWN} more: boobench hosts {found.host.name}"
    yield _line(
        f"kind: {model.kind}", "" if model.told else "guessed by the model's name; chat | completion | embedding"
    )
    yield _line("grid:", "every list is an axis, every combination one test")
    yield _line(f"  prompt_tokens: {list(sizes.prompt_tokens)}", sizes.prompt_reason)
    if sizes.output_tokens is not None:
        yield _line(f"  output_tokens: [{sizes.output_tokens}]", sizes.output_reason)
    yield _line(f"  concurrency: {list(sizes.concurrency)}", sizes.lanes_reason)
    if model.kind != "embedding":
        yield _line("sampling: {temperature: 0.0, seed: 42}", "sent as written, and nothing else is")
    yield _line("cache: cold", "no cached prompt token may be reused; warm: it may")
    yield _line("samples: 12", "requests per test; a multiple of the concurrency")
    if model.kind != "embedding" and not found.fixed_length:
        yield _line("length: natural", "this server cannot be told to go on: answers end where the model ends them")
    yield from _gate(model, sizes)
    yield from _overrides(model, sizes)


def _gate(model: Chosen, sizes: Sizes) -> Iterator[str]:
    """Chat and completion leave it to what is usual, which is another gate for several lanes."""
    several = len(sizes.concurrency) > 1
    if model.kind != "embedding":
        yield _line("# gate: {decode_tok_s: 10%}", "left out: red where prefill or decode is more than 10 % below the")
        yield _line("", f"stored baseline{', of several lanes decode or the end-to-end time' if several else ''}")
        return
    yield _line("gate: {embed_tok_s: 10%}", "red where it is more than 10 % below the stored baseline")


def _overrides(model: Chosen, sizes: Sizes) -> Iterator[str]:
    """What several lanes have of their own."""
    lanes = sizes.concurrency[-1]
    waits = lanes > 1 and model.kind == "embedding"
    if waits or sizes.too_long:
        yield "overrides:"
    if waits:
        yield _line(f"- where: {{concurrency: {lanes}}}", "prompts of several lanes wait for each other,")
        yield _line("  gate: {embed_tok_s: 30%}", "now more and now less")
    if sizes.too_long:
        where = f"- where: {{concurrency: {lanes}, prompt_tokens: {list(sizes.too_long)}}}"
        yield _line(where, "take these two lines out if each slot has a context of its own")
        yield f"  marks: [{{skip: {lanes} at once may not fit into {model.facts.n_ctx} tokens that slots may share}}]"


def _describe(sizes: Sizes) -> str:
    lengths = "Short and long prompts" if len(sizes.prompt_tokens) > 1 else "One length of prompt"
    return f"{lengths}, alone{f' and {sizes.concurrency[-1]} at a time' if len(sizes.concurrency) > 1 else ''}."


def _state(model: Chosen) -> str:
    if model.ready is None:
        return "the server does not tell which models are loaded"
    return "loaded when this was written" if model.ready else "was not loaded when this was written"


def _line(text: str, comment: str) -> str:
    return f"{text:<{_COLUMN}} # {comment}" if comment else text


def quote(text: str) -> str:
    """A text as a YAML scalar that every reader takes for that text."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
