"""Room 1: suite files: what comes of a good one, and what is said of a bad one, word for word."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_boobench import suite
from pytest_boobench.documents.validation import OneOrMore, whole
from pytest_boobench.documents.yaml_source import read
from pytest_boobench.documents.yaml_tree import Problems
from pytest_boobench.errors import DocumentError
from pytest_boobench.hosts import inventory
from pytest_boobench.metrics import METRICS, metrics_of
from pytest_boobench.suite.cell import Axis, Cell, Mark, Plan, Suite, Timeouts, list_axes

HOSTS = ("embedded", "rack-1", "rack-2")

CHAT = """\
suite: chat
hosts: embedded
models: [tiny-chat]
grid:
  prompt_tokens: [64, 512]
  output_tokens: 32
  concurrency: [1, 4]
"""

NO_EMBED = f"kind chat has no embed; known are {', '.join(metric.key for metric in metrics_of('chat'))}"
OF_EMBEDDINGS = ", ".join(metric.key for metric in metrics_of("embedding"))
EMBEDDING = """\
suite: e
hosts: [embedded]
models: [m]
kind: embedding
grid:
  prompt_tokens: [64]
  concurrency: [1, 4]
"""


def load(
    folder: Path, content: str | bytes, *, max_cells: int = 10_000, hosts_file: str | None = "hosts.yaml"
) -> Suite:
    """The suite in a file of this content."""
    path = folder / "x.boobench.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return suite.load(path, display="x.boobench.yaml", known_hosts=HOSTS, hosts_file=hosts_file, max_cells=max_cells)


def refuse(folder: Path, content: str | bytes, **options: Any) -> list[str]:
    """What is said of a bad suite, one problem a line, the file's name left out."""
    with pytest.raises(DocumentError) as caught:
        load(folder, content, **options)
    return [line.removeprefix("x.boobench.yaml:") for line in str(caught.value).splitlines()]


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TYPES: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: is_number(value) and isinstance(value, int),
    "number": is_number,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}
KEYWORDS: Mapping[str, tuple[str, Callable[[Any, Any, Any], bool]]] = {
    "type": ("any", lambda v, to, _: any(TYPES[name](v) for name in ([to] if isinstance(to, str) else to))),
    "enum": ("any", lambda v, to, _: v in to),
    "const": ("any", lambda v, to, _: v == to),
    "anyOf": ("any", lambda v, to, _: any(fits(v, form) for form in to)),
    "not": ("any", lambda v, to, _: not fits(v, to)),
    "if": ("any", lambda v, to, schema: fits(v, schema["then" if fits(v, to) else "else"])),
    "minimum": ("number", lambda v, to, _: v >= to),
    "maximum": ("number", lambda v, to, _: v <= to),
    "exclusiveMinimum": ("number", lambda v, to, _: v > to),
    "exclusiveMaximum": ("number", lambda v, to, _: v < to),
    "minLength": ("string", lambda v, to, _: len(v) >= to),
    "pattern": ("string", lambda v, to, _: re.search(to, v) is not None),
    "minItems": ("array", lambda v, to, _: len(v) >= to),
    "uniqueItems": ("array", lambda v, to, _: not to or all(v.count(item) == 1 for item in v)),
    "items": ("array", lambda v, to, _: all(fits(item, to) for item in v)),
    "minProperties": ("object", lambda v, to, _: len(v) >= to),
    "maxProperties": ("object", lambda v, to, _: len(v) <= to),
    "required": ("object", lambda v, to, _: set(to) <= set(v)),
    "properties": ("object", lambda v, to, _: all(fits(v[key], to[key]) for key in set(to) & set(v))),
    "propertyNames": ("object", lambda v, to, _: all(fits(key, to) for key in v)),
    "patternProperties": (
        "object",
        lambda v, to, _: all(fits(v[key], to[like]) for like in to for key in v if re.search(like, key)),
    ),
    "additionalProperties": ("object", lambda v, to, schema: to or all(is_named(key, schema) for key in v)),
}
"""JSON Schema as far as our schemas use it: keyword -> type of value that it speaks of, and what it says."""
ANNOTATIONS = {"$schema", "title", "description", "default", "then", "else"}


def is_named(key: str, schema: Mapping[str, Any]) -> bool:
    """Whether a JSON Schema names a key, as it is or by a pattern."""
    return key in schema["properties"] or any(re.search(like, key) for like in schema.get("patternProperties", ()))


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is valid by a JSON Schema."""
    rules = ((*KEYWORDS[word], wanted) for word, wanted in schema.items() if word not in ANNOTATIONS)
    return all(says(value, to, schema) for kind, says, to in rules if kind == "any" or TYPES[kind](value))


class TestGoodSuites:
    def test_cells_are_grouped_by_host_then_model_then_axes(self, tmp_path: Path) -> None:
        content = CHAT.replace("hosts: embedded", "hosts: [rack-2, embedded]").replace("[tiny-chat]", "[b, a]")
        found = [(cell.host, cell.model, cell.id) for cell in load(tmp_path, content).cells]
        ids = ["pp64-tg32-c1", "pp64-tg32-c4", "pp512-tg32-c1", "pp512-tg32-c4"]
        assert found == [(host, model, id) for host in ("rack-2", "embedded") for model in ("b", "a") for id in ids]

    def test_what_is_left_out_has_its_default(self, tmp_path: Path) -> None:
        loaded = load(tmp_path, "suite: s\nhosts: [embedded]\nmodels: m\ngrid: {prompt_tokens: 8, output_tokens: 9}")
        (cell,) = loaded.cells
        assert (loaded.name, loaded.description, loaded.fixtures) == ("s", "", ())
        assert (cell.kind, cell.cache, cell.concurrency, cell.sampling, cell.request) == ("chat", "cold", 1, {}, {})
        assert (cell.plan, cell.marks, cell.id, cell.line) == (Plan(), (), "pp8-tg9-c1", 3)

    def test_all_that_can_be_said_arrives(self, tmp_path: Path) -> None:
        content = """\
suite: all
description: All of it.
hosts: [embedded]
models:
- one
- Qwen/Qwen3-8B:Q4_K_M
kind: completion
grid: {prompt_tokens: 8, output_tokens: 9, concurrency: 2}
sampling: {temperature: 0, top_p: 1.0, seed: 42}
request: {stop: null, logit_bias: {15: -100}, deep: [[1.5]]}
cache: warm
warmup: 0
samples: 20
max_failed: 3
gate: {decode_tok_s: {max_drop: 15%}, prefill_tok_s: {}, ttft_ms: 50, e2e_ms: }
timeouts: {connect: 5, first_byte: 2m, stall: 500ms, request: 1h}
marks: [slow, {needs: [gpu, 2]}, {wants: {vram_gb: 24}}, {once: now}, {bare: }]
usefixtures: [quiet_machine]
"""
        loaded = load(tmp_path, content)
        cell = loaded.cells[1]
        assert (loaded.description, loaded.fixtures) == ("All of it.", ("quiet_machine",))
        assert (cell.model, cell.line, cell.kind, cell.cache) == ("Qwen/Qwen3-8B:Q4_K_M", 6, "completion", "warm")
        assert json.dumps(cell.sampling) == '{"temperature": 0, "top_p": 1.0, "seed": 42}'
        assert cell.request == {"stop": None, "logit_bias": {"15": -100}, "deep": [[1.5]]}
        assert cell.plan == Plan(
            warmup=0,
            samples=20,
            max_failed=3,
            gate={"decode_tok_s": 0.15, "prefill_tok_s": None, "ttft_ms": 0.5, "e2e_ms": None},
            timeouts=Timeouts(connect_s=5, first_byte_s=120, stall_s=0.5, request_s=3600),
        )
        assert cell.marks == (
            Mark("slow"),
            Mark("needs", args=("gpu", 2)),
            Mark("wants", kwargs={"vram_gb": 24}),
            Mark("once", args=("now",)),
            Mark("bare"),
        )

    def test_a_sampling_list_is_an_axis_and_stands_in_the_id(self, tmp_path: Path) -> None:
        content = CHAT + "sampling: {top_k: [-1, 40], temperature: [0.7], seed: 1}\n"
        cells = load(tmp_path, content).cells
        assert [cell.id for cell in cells[:2]] == [
            "pp64-tg32-c1-top_k-1-temperature0.7",
            "pp64-tg32-c1-top_k40-temperature0.7",
        ]
        assert [list(cell.sampling.items()) for cell in cells[:2]] == [
            [("top_k", -1), ("temperature", 0.7), ("seed", 1)],
            [("top_k", 40), ("temperature", 0.7), ("seed", 1)],
        ]
        assert cells[0].sampling is cells[2].sampling

    def test_embeddings_have_no_output(self, tmp_path: Path) -> None:
        assert [(cell.id, cell.output_tokens) for cell in load(tmp_path, EMBEDDING).cells] == [
            ("pp64-c1", None),
            ("pp64-c4", None),
        ]

    def test_an_empty_gate_judges_nothing(self, tmp_path: Path) -> None:
        assert load(tmp_path, CHAT + "gate: {}").cells[0].plan.gate == {}

    @pytest.mark.parametrize(
        ("written", "mark"),
        [
            ("skip: later", Mark("skip", kwargs={"reason": "later"})),
            ("skip: {reason: later}", Mark("skip", kwargs={"reason": "later"})),
            ("xfail: slow today", Mark("xfail", kwargs={"reason": "slow today"})),
            ("xfail: {reason: slow, strict: true}", Mark("xfail", kwargs={"reason": "slow", "strict": True})),
            (
                "skipif: {condition: 'not os.environ.get(\"GPU\")', reason: no GPU}",
                Mark("skipif", kwargs={"condition": 'not os.environ.get("GPU")', "reason": "no GPU"}),
            ),
            (
                "skipif: {condition: true, reason: no GPU}",
                Mark("skipif", kwargs={"condition": True, "reason": "no GPU"}),
            ),
        ],
    )
    def test_pytests_own_marks_have_their_arguments_by_name(self, tmp_path: Path, written: str, mark: Mark) -> None:
        assert load(tmp_path, f"{CHAT}marks:\n- {written}\n").cells[0].marks == (mark,)

    def test_anchors_and_merge_keys_work(self, tmp_path: Path) -> None:
        content = f"""{CHAT}
gate: &strict
  decode_tok_s: 5%
overrides:
- where: {{concurrency: 4}}
  gate:
    <<: *strict
    ttft_ms: 20%
"""
        gates = [cell.plan.gate for cell in load(tmp_path, content).cells[:2]]
        assert gates == [{"decode_tok_s": 0.05}, {"decode_tok_s": 0.05, "ttft_ms": 0.2}]

    def test_hosts_are_not_checked_where_none_are_known(self, tmp_path: Path) -> None:
        path = tmp_path / "x.boobench.yaml"
        path.write_text(CHAT.replace("embedded", "anywhere"))
        assert suite.load(path, display="x", known_hosts=None).hosts == ("anywhere",)


class TestOverrides:
    CONTENT = (
        CHAT
        + """\
marks: [slow]
timeouts: {stall: 5s}
overrides:
- where: {concurrency: 4}
  samples: 40
  gate: {decode_tok_s: 20%}
  marks: [busy]
- where: {prompt_tokens: [512], concurrency: [1, 4], model: tiny-chat, host: embedded}
  warmup: 3
  max_failed: 1
  gate: {prefill_tok_s: {max_drop: 5%}}
  timeouts: {request: 1h}
"""
    )

    def test_they_change_the_matching_cells_in_order_and_only_what_they_name(self, tmp_path: Path) -> None:
        cells = {cell.id: cell for cell in load(tmp_path, self.CONTENT).cells}
        stall = Timeouts(stall_s=5)
        hour = Timeouts(stall_s=5, request_s=3600)
        assert {id: cell.plan for id, cell in cells.items()} == {
            "pp64-tg32-c1": Plan(timeouts=stall),
            "pp64-tg32-c4": Plan(samples=40, gate={"decode_tok_s": 0.2, "e2e_ms": None}, timeouts=stall),
            "pp512-tg32-c1": Plan(
                warmup=3, max_failed=1, gate={"decode_tok_s": None, "prefill_tok_s": 0.05}, timeouts=hour
            ),
            "pp512-tg32-c4": Plan(
                warmup=3,
                samples=40,
                max_failed=1,
                gate={"decode_tok_s": 0.2, "e2e_ms": None, "prefill_tok_s": 0.05},
                timeouts=hour,
            ),
        }
        assert [[mark.name for mark in cell.marks] for cell in cells.values()] == [
            ["slow"],
            ["slow", "busy"],
            ["slow"],
            ["slow", "busy"],
        ]

    def test_sampling_fields_pick_cells_axis_or_not(self, tmp_path: Path) -> None:
        content = f"""{CHAT}
sampling: {{temperature: [0.0, 0.7], top_k: 40}}
overrides: {{where: {{temperature: 0, top_k: 40}}, samples: 3}}
"""
        assert [cell.plan.samples for cell in load(tmp_path, content).cells[:2]] == [3, 10]

    @pytest.mark.parametrize(("lanes", "samples"), [(1, 10), (2, 10), (3, 12), (4, 12), (10, 10), (64, 64)])
    def test_samples_left_out_are_as_many_for_each_lane(self, tmp_path: Path, lanes: int, samples: int) -> None:
        content = CHAT.replace("concurrency: [1, 4]", f"concurrency: {lanes}")
        assert {cell.plan.samples for cell in load(tmp_path, content).cells} == {samples}


BAD_FIELDS = [
    ("hosts: [rack-3]", "2: hosts[0]: no host 'rack-3' in hosts.yaml; did you mean 'rack-2'?"),
    ("hosts: somewhere", "2: hosts: no host 'somewhere' in hosts.yaml; known are embedded, rack-1, rack-2"),
    ("hosts: [embedded, embedded]", "2: hosts[1]: embedded stands twice; keep one of them"),
    ("hosts:", "2: hosts: expected a name, got nothing"),
    ("models: [7]", '3: models[0]: expected text, got 7; write "7" in quotes'),
    ("models: []", "3: models: expected at least one item, got an empty list"),
    ("kind: chta", "8: kind: expected chat, completion or embedding, got 'chta'"),
    ("cache: hot", "8: cache: expected cold or warm, got 'hot'"),
    ("modles: [a]", "8: modles: unknown key; did you mean 'models'?"),
    ("warmup: -1", "8: warmup: expected a whole number from 0, got -1"),
    ("samples: 0", "8: samples: expected a whole number from 1, got 0"),
    ("samples: '4'", "8: samples: expected a whole number from 1, got '4' as text; write 4 without quotes"),
    ("samples: .inf", "8: samples: expected a whole number from 1, got .inf"),
    ("max_failed: 10", "8: max_failed: expected a whole number below samples, 10, got 10"),
    (
        "grid: [1]",
        "4: grid: expected a mapping with prompt_tokens, output_tokens, concurrency, depth_tokens, turns, rate, "
        "got a list",
    ),
    (
        "grid: {prompt_tokens: 1}",
        "4: grid.output_tokens: is missing; kind chat needs a whole number from 1, or a list of such",
    ),
    (
        "grid: {output_tokens: 1}",
        "4: grid.prompt_tokens: is missing; expected a whole number from 1, or a list of such; "
        "or write prompts: FILE.jsonl",
    ),
    (
        "grid: {prompt_tokens: 1, output_tokens: 1, concurrency: [1, four]}",
        "4: grid.concurrency[1]: expected a whole number from 1, got 'four'",
    ),
    (
        "grid: {prompt_tokens: 1, output_tokens: 1, concurrency: [1, 4, 4]}",
        "4: grid.concurrency[2]: 4 stands twice; keep one of them",
    ),
    (
        "grid: {prompt_tokens: 1, output_tokens: 1, concurency: 1}",
        "4: grid.concurency: unknown key; did you mean 'concurrency'?",
    ),
    ("sampling: {temperature: .nan}", "8: sampling.temperature: expected a number from 0 to 100, got .nan"),
    ("sampling: {temperature: [0.0, 0]}", "8: sampling.temperature[1]: 0 stands twice; keep one of them"),
    ("sampling: {top_p: 1.5}", "8: sampling.top_p: expected a number from 0 to 1, got 1.5"),
    ("sampling: {dry_base: 0.5}", "8: sampling.dry_base: expected a number from 1, got 0.5"),
    ("sampling: {temprature: 1}", "8: sampling.temprature: unknown key; did you mean 'temperature'?"),
    ("request: [1]", "8: request: expected a mapping of fields of the request's body, got a list"),
    ("request: {n: 2}", "8: request.n: the plugin sets it: one answer is measured for each request; leave it out"),
    (
        "request: {max_tokens: 2}",
        "8: request.max_tokens: the plugin sets it: it comes from grid.output_tokens; leave it out",
    ),
    ("request: {top_k: 2}", "8: request.top_k: is a sampling field; write it under sampling"),
    *(
        (
            f"request: {{{name}: sk-1234}}",
            f"8: request.{name}: a suite is stored as it is written, so no key may be in it; "
            "write api_key: ${NAME} in the hosts file",
        )
        for name in ("api_key", "Authorization", "x-api-key", "hf_token", "password")
    ),
    ("request: {a: {b: [1, .inf]}}", "8: request.a.b[1]: expected a finite number, got .inf"),
    ("gate: 10%", "8: gate: expected a mapping such as decode_tok_s: {max_drop: 10%}, got '10%'"),
    ("gate: {decode_toks: 10%}", "8: gate.decode_toks: unknown metric; did you mean 'decode_tok_s'?"),
    ("gate: {decode_tok_s: 0.1}", "8: gate.decode_tok_s: 0.1 may mean 0.1% or 10%; write it with its % sign"),
    (
        "gate: {decode_tok_s: {max_rise: 5%}}",
        "8: gate.decode_tok_s.max_rise: decode is better when higher; write max_drop",
    ),
    ("gate: {ttft_ms: {max_drop: 5%}}", "8: gate.ttft_ms.max_drop: TTFT is better when lower; write max_rise"),
    ("gate: {ttft_ms: {max_rize: 5%}}", "8: gate.ttft_ms.max_rize: unknown key; did you mean 'max_rise'?"),
    (
        "gate: {decode_tok_s: {max_drop: 100}}",
        "8: gate.decode_tok_s.max_drop: expected a percentage such as 10%, below 100%, got 100",
    ),
    (
        "gate: {embed_tok_s: 10%}",
        f"8: gate.embed_tok_s: {NO_EMBED}",
    ),
    ("gate: {kld: 0.02}", "8: gate.kld: nothing measures it; write quality: kld too"),
    (
        "quality: kld\ngate: {kld: {max_rise: 10%}}",
        "9: gate.kld.max_rise: KLD is a distance; write at_most",
    ),
    ("quality: kld\ngate: {kld: 2%}", "9: gate.kld: expected a number from 0, got '2%'"),
    ("quality: perplexity", "8: quality: expected kld, got 'perplexity'"),
    ("timeouts: {stall: soon}", "8: timeouts.stall: expected a time such as 30s, 5m or 250ms, got 'soon'"),
    ("timeouts: 5", "8: timeouts: expected a mapping with connect, first_byte, stall, request, got 5"),
    ("marks: [not a mark]", "8: marks[0]: expected the name of a mark, or name: arguments, got 'not a mark'"),
    ("marks: [_private]", "8: marks[0]: expected the name of a mark, or name: arguments, got '_private'"),
    ("marks: [{a: 1, b: 2}]", "8: marks[0]: expected one mark, got 2; begin each with a dash"),
    ("marks: [{}]", "8: marks[0]: expected one mark, got 0; begin each with a dash"),
    ("marks: [{a b: 1}]", "8: marks[0]: expected the name of a mark, or name: arguments, got a mapping"),
    ("marks: [skipif]", "8: marks[0]: expected skipif: {condition: …, reason: …}, got no condition"),
    ("marks: [{skip: 3}]", "8: marks[0].skip: expected a reason, got 3"),
    ("marks: [{skip: {condition: true}}]", "8: marks[0].skip.condition: unknown key; known are reason"),
    ("marks: [{skipif: no GPU}]", "8: marks[0].skipif: expected a mapping with condition, reason, got 'no GPU'"),
    ("marks: [{xfail: {stric: true}}]", "8: marks[0].xfail.stric: unknown key; did you mean 'strict'?"),
    ("marks: [{xfail: {strict: yes}}]", "8: marks[0].xfail.strict: expected true or false, got 'yes'"),
    (
        "marks: [{usefixtures: a}]",
        "8: marks[0]: not a mark for a suite: write the fixtures under usefixtures, beside marks",
    ),
    ("marks: [parametrize]", "8: marks[0]: not a mark for a suite: lists under grid and sampling make the parameters"),
    ("marks: [boobench]", "8: marks[0]: not a mark for a suite: every cell has this mark already"),
    (
        "marks: [{xdist_group: {name: a}}]",
        "8: marks[0]: not a mark for a suite: the cells of a server run in one worker as it is",
    ),
    ("overrides: [{samples: 3}]", "8: overrides[0].where: is missing; expected a mapping of axes to values"),
    ("overrides: [3]", "8: overrides[0]: expected a mapping with where, got 3"),
    (
        "overrides: [{where: {concurrency: 4}}]",
        "8: overrides[0]: changes nothing; add samples, warmup, max_failed, gate, timeouts or marks",
    ),
    (
        "overrides: [{where: {concurrency: [4, 16]}, samples: 3}]",
        "8: overrides[0].where.concurrency[1]: picks no cell; the cells have 1, 4",
    ),
    (
        "overrides: [{where: {model: tiny-chta}, samples: 3}]",
        "8: overrides[0].where.model: picks no cell; the cells have tiny-chat",
    ),
    (
        "overrides: [{where: {temperature: 1}, samples: 3}]",
        (
            "8: overrides[0].where.temperature: the suite does not set temperature; "
            "known are host, model, prompt_tokens, output_tokens, concurrency"
        ),
    ),
    (
        "overrides: [{where: {modle: a}, samples: 3}]",
        "8: overrides[0].where.modle: the suite does not set modle; did you mean 'model'?",
    ),
    (
        "overrides: [{where: {concurrency: 4}, samples: 3, max_failed: 3}]",
        "8: overrides[0].max_failed: expected a whole number below samples, 3, got 3",
    ),
    (
        "overrides: [{where: {concurrency: 4}, gate: {embed_tok_s: 3%}}]",
        f"8: overrides[0].gate.embed_tok_s: {NO_EMBED}",
    ),
    ("usefixtures: [3]", '8: usefixtures[0]: expected text, got 3; write "3" in quotes'),
    ("description: 2024", '8: description: expected text, got 2024; write "2024" in quotes'),
]


@pytest.mark.parametrize(("field", "said"), BAD_FIELDS, ids=[field for field, _ in BAD_FIELDS])
def test_a_bad_field_is_said_with_its_line_and_path(tmp_path: Path, field: str, said: str) -> None:
    blocks = {line.partition(":")[0]: line for line in CHAT.splitlines()[:3]}
    blocks["grid"] = CHAT[CHAT.index("grid:") :].rstrip()
    name = field.partition(":")[0]
    content = "\n".join((blocks | {name: field}).values())
    assert refuse(tmp_path, content) == [said]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ('"a[b"', "the name 'a[b' holds '[', which a node id cannot carry"),
        ('"a]b"', "the name 'a]b' holds ']', which a node id cannot carry"),
        ("a::b", "the name 'a::b' holds '::', which a node id cannot carry"),
        ('":a"', "the name ':a' begins or ends with ':', which a node id cannot carry beside its '::'"),
        ('"a:"', "the name 'a:' begins or ends with ':', which a node id cannot carry beside its '::'"),
        ('" a"', "the name ' a' begins or ends with a space, which a node id cannot carry"),
        ('"a "', "the name 'a ' begins or ends with a space, which a node id cannot carry"),
        ('"a\\tb"', "the name holds the character U+0009, which a node id cannot carry"),
        ('"a\\u200bb"', "the name holds the character U+200B, which a node id cannot carry"),
        ('""', "expected a name, got ''"),
        ("x" * 201, "a name of 201 characters; 200 are the limit"),
        ("pytestmark", "the name 'pytestmark' has a meaning of its own in pytest; choose another"),
        ("setup_method", "the name 'setup_method' has a meaning of its own in pytest; choose another"),
        ("__init__", "the name '__init__' has a meaning of its own in pytest; choose another"),
    ],
)
@pytest.mark.parametrize("field", ["suite", "hosts"])
def test_a_name_that_a_node_id_cannot_carry_is_refused(tmp_path: Path, field: str, name: str, said: str) -> None:
    line = {"suite": 1, "hosts": 2}[field]
    lines = CHAT.splitlines()
    lines[line - 1] = f"{field}: {name}"
    assert refuse(tmp_path, "\n".join(lines)) == [f"{line}: {field}: {said}"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ('" a"', "the name ' a' begins or ends with a space, which a node id cannot carry"),
        ('"a\\tb"', "the name holds the character U+0009, which a node id cannot carry"),
        ('""', "expected a name, got ''"),
        ("x" * 1001, "a name of 1,001 characters; 1,000 are the limit"),
    ],
)
def test_a_models_name_can_be_seen(tmp_path: Path, name: str, said: str) -> None:
    assert refuse(tmp_path, CHAT.replace("models: [tiny-chat]", f"models: {name}")) == [f"3: models: {said}"]


@pytest.mark.parametrize("name", ["a[b]", "a::b", ":a", "__init__", "/models/" + "x" * 300, r"C:\models\x.gguf"])
def test_a_model_may_be_called_what_no_node_id_can_carry(tmp_path: Path, name: str) -> None:
    loaded = load(tmp_path, CHAT.replace("models: [tiny-chat]", f"models: {json.dumps(name)}"))
    assert {cell.model for cell in loaded.cells} == {name}


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3-8B:Q4_K_M", "a b", "ünï", "a.b-c_d+e", "a@b", "(a)", "peer/model", "no", "2024-01-01", "12:30"]
)
def test_a_name_that_a_node_id_can_carry_is_kept(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, CHAT.replace("[tiny-chat]", name)).models == (name,)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ["1: the file is empty"]),
        ("- a\n- b\n", ["1: expected a mapping with suite, hosts, models, grid, got a list"]),
        ("just text", ["1: expected a mapping with suite, hosts, models, grid, got 'just text'"]),
        (
            "# nothing yet\nsuite: s\n",
            [
                "2: grid: is missing; expected a mapping with prompt_tokens, output_tokens, concurrency, depth_tokens, "
                "turns, rate",
                "2: hosts: is missing; expected a name, or a list of such",
                "2: models: is missing; expected a name, or a list of such",
            ],
        ),
        (CHAT + "suite: again", ["8: suite: stands twice, first on line 1; keep one of them"]),
        (
            CHAT.replace("  concurrency", "\tconcurrency"),
            ["7: a tab stands where YAML wants spaces; indent with spaces"],
        ),
        (
            CHAT + "request: !!python/object/apply:os.system [exit]",
            ["8: request: the tag !!python/object/apply:os.system is not allowed here; write a plain value"],
        ),
        (
            EMBEDDING + "  output_tokens: 4\nsampling: {seed: 1}\ngate: {ttft_ms: 10%}\n",
            [
                "8: grid.output_tokens: an embedding generates no tokens; leave it out",
                "9: sampling: an embedding samples no tokens; leave it out",
                f"10: gate.ttft_ms: kind embedding has no TTFT; known are {OF_EMBEDDINGS}",
            ],
        ),
        (
            EMBEDDING + "  depth_tokens: [0, 512]\n",
            ["8: grid.depth_tokens: an embedding takes nothing from a cache; leave it out"],
        ),
        (
            CHAT + "  depth_tokens: 64\nturns: 3\n",
            ["9: turns: does not go with depth_tokens: a conversation makes its own context; keep one of them"],
        ),
        (
            CHAT.replace("[1, 4]", "1") + "  depth_tokens: 64\n  rate: [0, 2]\n",
            ["8: grid.depth_tokens: cannot be combined with rate; measure them in two suites"],
        ),
        (
            """\
suite: "a[b]"
hosts: [rack-9]
models: [m]
kindd: chat
grid:
  prompt_tokens: [64, sixty]
  output_tokens: 8
samples: 5
max_failed: 5
gate: {embed_tok_s: 5%}
overrides:
- where: {concurrency: 8}
  samples: many
""",
            [
                "1: suite: the name 'a[b]' holds '[', which a node id cannot carry",
                "2: hosts[0]: no host 'rack-9' in hosts.yaml; did you mean 'rack-2'?",
                "4: kindd: unknown key; did you mean 'kind'?",
                "6: grid.prompt_tokens[1]: expected a whole number from 1, got 'sixty'",
                "9: max_failed: expected a whole number below samples, 5, got 5",
                f"10: gate.embed_tok_s: {NO_EMBED}",
                "12: overrides[0].where.concurrency: picks no cell; the cells have 1",
                "13: overrides[0].samples: expected a whole number from 1, got 'many'",
            ],
        ),
    ],
)
def test_all_problems_of_a_file_are_said_at_once(tmp_path: Path, content: str, said: list[str]) -> None:
    assert refuse(tmp_path, content) == said


def test_without_a_hosts_file_it_is_said_so(tmp_path: Path) -> None:
    content = CHAT.replace("embedded", "rack-3")
    assert refuse(tmp_path, content, hosts_file=None) == [
        "2: hosts: no host 'rack-3' without a hosts file; did you mean 'rack-2'?"
    ]


def test_a_long_axis_is_not_listed_whole(tmp_path: Path) -> None:
    content = (
        CHAT.replace("[64, 512]", str(list(range(1, 101)))) + "overrides: {where: {prompt_tokens: 101}, samples: 1}"
    )
    assert refuse(tmp_path, content) == [
        "8: overrides.where.prompt_tokens: picks no cell; the cells have 1, 2, 3, 4, 5, 6, 7, 8, …"
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CHAT, "4: grid: 2 x 1 x 2 x 1 host x 1 model = 4 cells, the limit is 3 (ini boobench_max_cells)"),
        (
            CHAT.replace("[64, 512]", str(list(range(1, 1201))))
            .replace("output_tokens: 32", f"output_tokens: {list(range(1, 1001))}")
            .replace("embedded", "[embedded, rack-1]")
            + f"sampling: {{seed: {list(range(500))}}}",
            (
                "4: grid: 1200 x 1000 x 2 x 500 x 2 hosts x 1 model = 2,400,000,000 cells, "
                "the limit is 3 (ini boobench_max_cells)"
            ),
        ),
    ],
    ids=["just-over", "billions"],
)
def test_a_grid_over_the_limit_says_its_size(tmp_path: Path, content: str, said: str) -> None:
    assert refuse(tmp_path, content, max_cells=3) == [said]


def test_ten_thousand_cells_share_what_they_can(tmp_path: Path) -> None:
    content = CHAT.replace("[64, 512]", str(list(range(1, 101)))).replace("[1, 4]", str(list(range(1, 101))))
    cells = load(tmp_path, content).cells
    assert len(cells) == len({cell.id for cell in cells}) == len({cell.key for cell in cells}) == 10_000
    assert len({id(cell.sampling) for cell in cells}) == 1
    assert len({id(cell.plan) for cell in cells}) == 100  # one for each number of lanes


def test_a_cell_can_travel_to_another_process(tmp_path: Path) -> None:
    cell = load(tmp_path, TestOverrides.CONTENT + "sampling: {seed: 1}").cells[1]
    assert pickle.loads(pickle.dumps(cell)) == cell
    assert json.loads(json.dumps(cell.identity)) == cell.identity


def test_a_name_is_one_files(tmp_path: Path) -> None:
    names = suite.SuiteNames()
    names.claim(load(tmp_path, CHAT), "y.boobench.yaml")
    names.claim(load(tmp_path, CHAT), "y.boobench.yaml")
    path = tmp_path / "z.boobench.yaml"
    path.write_text("# two of a name\n" + CHAT)
    with pytest.raises(DocumentError) as caught:
        names.claim(suite.load(path, display="z.boobench.yaml", known_hosts=None), "z.boobench.yaml")
    assert str(caught.value) == (
        "z.boobench.yaml:2: suite: 'chat' is the name of y.boobench.yaml too; the store needs two names"
    )


NEW_AXIS = """\
    warp_tokens: Annotated[
        int, whole(0), Axis("Tokens that stand before the prompt.", sign="w", in_grid=True, absent=0)
    ] = 0
"""
LOAD_DEEP = """
import json, pathlib, sys
from pytest_boobench import baseline_file, suite
from pytest_boobench.errors import DocumentError
schemas = suite.schema()["properties"]["grid"]["properties"], baseline_file.schema()["properties"]["cells"]["items"]
told = {"grid": schemas[0]["warp_tokens"], "baseline": schemas[1]["properties"]["warp_tokens"]}
for name in sys.argv[1:]:
    try:
        cells = suite.load(pathlib.Path(name), display="x", known_hosts=None).cells
        told[name] = [[cell.id, cell.warp_tokens, cell.key, "warp_tokens" in cell.identity] for cell in cells]
    except DocumentError as error:
        told[name] = str(error)
print(json.dumps(told))
"""


def test_a_new_axis_is_one_field_of_cell(tmp_path: Path) -> None:
    package = Path(suite.__file__).parent.parent
    shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__", "manual", "html"))
    module = tmp_path / package.name / "suite" / "cell.py"
    before, field, after = module.read_text(encoding="utf-8").partition("    sampling: Annotated[")
    module.write_text(before + NEW_AXIS + field + after, encoding="utf-8")

    one = CHAT.replace("[64, 512]", "64").replace("[1, 4]", "1")
    files = {
        "old": one,
        "deep": f"{one}  warp_tokens: [0, 4096]\noverrides: {{where: {{warp_tokens: 4096}}, samples: 3}}\n",
        "bad": f"{one}  warp_tokens: -1\noverrides: {{where: {{warp_tokens: 4096}}, samples: 3}}\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_DEEP, *files], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    key = load(tmp_path, one).cells[0].key
    assert told["old"] == [["pp64-tg32-c1", 0, key, False]]
    shallow, (deep_id, depth, deep_key, named) = told["deep"]
    assert shallow == told["old"][0], "cells that were measured before the axis came are what they were"
    assert (deep_id, depth, named, deep_key != key) == ("pp64-tg32-c1-w4096", 4096, True, True)
    assert told["bad"] == "x:8: grid.warp_tokens: expected a whole number from 0, got -1"
    value = {"type": "integer", "minimum": 0}
    assert told["grid"]["anyOf"][0] == value
    assert (told["grid"]["default"], told["grid"]["description"]) == (0, "Tokens that stand before the prompt.")
    assert told["baseline"] == {**value, "default": 0, "description": "Tokens that stand before the prompt."}


def test_an_axis_says_what_a_file_may_hold() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Other(Cell):
        warp_tokens: Annotated[int, Axis("Tokens before the prompt.")] = 0

    with pytest.raises(TypeError, match=r"^Other\.warp_tokens: an axis without what a file may hold; add whole\(1\)"):
        list_axes(Other)


PIECES = [
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "!!int ",
    "!!set ",
    "\t",
    "\n",
    "? ",
    "| ",
    '"',
    "~",
    "#",
]


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_no_file_makes_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = TestOverrides.CONTENT
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(begin, min(len(content), begin + 9)))
        piece = data.draw(st.sampled_from(PIECES) | st.text(max_size=5))
        content = content[:begin] + piece + content[end:]
    said = ""
    try:
        load(tmp_path_factory.getbasetemp(), content.encode("utf-8", "surrogatepass"))
    except DocumentError as error:
        said = str(error)
    assert all(line.startswith("x.boobench.yaml:") for line in said.splitlines())


class TestExamples:
    FOLDER = Path(__file__).parents[2] / "example_suites"
    PATHS = sorted(FOLDER.glob("*.boobench.yaml"))

    def load(self, path: Path) -> Suite:
        hosts = inventory.load(self.FOLDER / "boobench.hosts.yaml", env={})
        return suite.load(path, display=path.name, known_hosts=hosts.names, starts=hosts.starts)

    @pytest.mark.parametrize("path", PATHS, ids=[path.name for path in PATHS])
    def test_they_are_good(self, path: Path) -> None:
        loaded = self.load(path)
        assert loaded.name == path.name.removesuffix(".boobench.yaml")
        skipped = {mark.name for cell in loaded.cells for mark in cell.marks} == {"skip"}
        assert skipped is (loaded.hosts != ("embedded",)), "what is no template runs on every machine"

    def test_the_embedded_ones_have_cells_of_every_kind(self) -> None:
        suites = [self.load(path) for path in self.PATHS]
        cells = [cell for loaded in suites for cell in loaded.cells if not cell.marks]
        assert {cell.kind for cell in cells} == {"chat", "completion", "embedding"}
        assert len(cells) >= 8


class TestSchema:
    def test_it_names_every_field_that_reading_knows(self) -> None:
        schema = suite.schema()
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["required"] == ["suite", "hosts", "models", "grid"]
        assert set(schema["properties"]) == {
            *("suite", "description", "hosts", "models", "kind", "grid", "sampling", "request", "cache"),
            *("warmup", "warmup_max", "warmup_time", "samples", "max_samples", "max_failed", "gate", "disturbed"),
            *(
                "policy",
                "output_canary",
                "timeouts",
                "marks",
                "usefixtures",
                "overrides",
                "length",
                "prompts",
                "launch",
                "quality",
            ),
            *("rate", "turns", "turn_tokens", "think_time", "arrival", "duration", "slo"),
        }
        assert schema["properties"]["samples"] == {
            "type": "integer",
            "minimum": 1,
            "description": "Measured requests per block, over all lanes; by itself a multiple of the concurrency; at a "
            "rate those of 30 s.",
            "default": 10,
        }
        assert set(schema["properties"]["gate"]["properties"]) == set(METRICS)

    def test_an_axis_may_be_a_list_or_a_value(self) -> None:
        temperature = suite.schema()["properties"]["sampling"]["properties"]["temperature"]
        assert [form["type"] for form in temperature["anyOf"]] == ["number", "array"]
        assert OneOrMore(whole(1), keep_single=True).words == "a whole number from 1, or a list of such"

    @pytest.mark.parametrize("path", TestExamples.PATHS, ids=[path.name for path in TestExamples.PATHS])
    def test_it_accepts_the_examples(self, path: Path) -> None:
        written = read(path, Problems(path.name)).to_plain()
        assert fits(written, suite.schema())

    @pytest.mark.parametrize(
        "field",
        [
            *("kind: chta", "samples: '4'", "sampling: {top_p: 2}", "sampling: {seed: []}", "request: {model: a}"),
            *("gate: {ttft_ms: {max_drop: 5%}}", "gate: {ttft_ms: 0.5}", "modles: a", "timeouts: {stall: soon}"),
            *("overrides: [{samples: 3}]", "marks: [{a: 1, b: 2}]", "kind: embedding", "grid: {prompt_tokens: 1}"),
        ],
    )
    def test_it_refuses_what_reading_refuses(self, tmp_path: Path, field: str) -> None:
        path = tmp_path / "x.boobench.yaml"
        path.write_text(CHAT)
        good = read(path, Problems("x")).to_plain()
        path.write_text(field)
        assert fits(good, suite.schema())
        assert not fits(good | read(path, Problems("x")).to_plain(), suite.schema())

    def test_it_is_json(self) -> None:
        assert json.loads(json.dumps(suite.schema())) == suite.schema()


def test_reading_suites_brings_neither_http_nor_sql(tmp_path: Path) -> None:
    code = (
        "import sys; from pytest_boobench import suite; print({'httpx', 'sqlalchemy', 'xllamacpp'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"
