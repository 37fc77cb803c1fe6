"""Room 0: every way in which a file is no YAML for us, and every shape, word for word."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from pytest_boobench.documents.validation import (
    FileModel,
    Keyed,
    Named,
    OneOrMore,
    ValueType,
    choice,
    duration,
    flag,
    number,
    percentage,
    read_as,
    read_value,
    text,
    whole,
    write_json_schema,
    write_value_schema,
)
from pytest_boobench.documents.yaml_source import MAX_BYTES, read
from pytest_boobench.documents.yaml_tree import Node, Problems, suggest
from pytest_boobench.errors import DocumentError


def read_text(folder: Path, content: str | bytes) -> Any:
    """The plain value of a file, or its problems as lines."""
    path = folder / "f.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    problems = Problems("f.yaml")
    try:
        node = read(path, problems)
        problems.raise_any()
    except DocumentError as error:
        return str(error).splitlines()
    return node.to_plain()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("", ["f.yaml:1: the file is empty"], id="empty"),
        pytest.param("# only\n# comments\n", ["f.yaml:1: the file is empty"], id="comments"),
        pytest.param("---\n", ["f.yaml:1: the file is empty"], id="marker"),
        pytest.param("a: 1\n\tb: 2", ["f.yaml:2: a tab stands where YAML wants spaces; indent with spaces"], id="tab"),
        pytest.param(b"a: 1\nb: caf\xe9\n", ["f.yaml:2: byte 0xe9 is not UTF-8; save the file as UTF-8"], id="latin-1"),
        pytest.param(
            "a: 1".encode("utf-16"), ["f.yaml:1: byte 0xff is not UTF-8; save the file as UTF-8"], id="utf-16"
        ),
        pytest.param(
            "a: 1\nb: \x07", ["f.yaml:2: the character U+0007 cannot stand in a YAML file; take it out"], id="control"
        ),
        pytest.param(
            b"a: 1\n" + b"#" * 10_000_000,
            ["f.yaml:1: the file is larger than 1,000,000 bytes; split it up"],
            id="10-mb",
        ),
        pytest.param(
            "a: 1\n---\nb: 2", ["f.yaml:2: a second document begins; give it a file of its own"], id="two-documents"
        ),
        pytest.param("[" * 100_000, ["f.yaml:1: lists and mappings more than 64 deep"], id="deep-flow"),
        pytest.param(
            "\n".join(f"{' ' * i}a:" for i in range(500)),
            ["f.yaml:65: lists and mappings more than 64 deep"],
            id="deep-block",
        ),
        pytest.param("a: &a [*a]", ["f.yaml:1: lists and mappings more than 64 deep"], id="alias-in-itself"),
        pytest.param(
            "\n".join(["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))]),
            ["f.yaml:1: more than 100,000 values once aliases are followed"],
            id="alias-bomb",
        ),
        pytest.param(
            "\n".join(["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 40))]),
            ["f.yaml:3: more than 100,000 values once aliases are followed"],
            id="merge-bomb",
        ),
        pytest.param(
            "a: 1\nb: 2\na: 3", ["f.yaml:3: a: stands twice, first on line 1; keep one of them"], id="duplicate-key"
        ),
        pytest.param(
            "a:\n- b: 1\n  b: 2",
            ["f.yaml:3: a[0].b: stands twice, first on line 2; keep one of them"],
            id="duplicate-deep",
        ),
        pytest.param(
            "a: !!python/object/apply:os.system ['false']",
            ["f.yaml:1: a: the tag !!python/object/apply:os.system is not allowed here; write a plain value"],
            id="tag-that-runs-code",
        ),
        pytest.param(
            "a: !!python/name:os.system",
            ["f.yaml:1: a: the tag !!python/name:os.system is not allowed here; write a plain value"],
            id="tag-of-a-scalar",
        ),
        pytest.param(
            "!mine {a: 1}", ["f.yaml:1: the tag !mine is not allowed here; write a plain value"], id="own-tag"
        ),
        pytest.param("a: !!int four", ["f.yaml:1: a: 'four' is not what its tag !!int says"], id="lying-tag"),
        pytest.param(
            "a: 017",
            ["f.yaml:1: a: 017 begins with 0, which some readers of YAML take for octal; write 17"],
            id="octal",
        ),
        pytest.param(
            f"a: {'9' * 5000}", ["f.yaml:1: a: a number of 5000 characters; 100 are the limit"], id="many-digits"
        ),
        pytest.param(
            '"a\\nb": !!set {}\n"": !!set {}',
            [
                "f.yaml:1: 'a\\nb': the tag !!set is not allowed here; write a plain value",
                "f.yaml:2: '': the tag !!set is not allowed here; write a plain value",
            ],
            id="strange-keys",
        ),
        pytest.param(
            "{{ name }}: 1",
            ["f.yaml:1: a key is a list or a mapping; put text with { or [ in quotes"],
            id="template-as-key",
        ),
        pytest.param(
            "a: 1\n<<: 3", ["f.yaml:2: <<: expected a mapping or a list of them to merge in"], id="merge-of-a-number"
        ),
        pytest.param("a: b: c", ["f.yaml:1: not YAML: mapping values are not allowed in this context"], id="colons"),
        pytest.param(
            "a: 1\nb: [1, 2\n",
            ["f.yaml:3: not YAML: while parsing a flow sequence, did not find expected ',' or ']'"],
            id="open-list",
        ),
        pytest.param("a: *nobody", ["f.yaml:1: not YAML: found undefined alias"], id="unknown-alias"),
        pytest.param(
            "a: !!set {x}\na: 017\nb: !!binary aGk=",
            [
                "f.yaml:1: a: the tag !!set is not allowed here; write a plain value",
                "f.yaml:3: b: the tag !!binary is not allowed here; write a plain value",
            ],
            id="several-but-one-for-each-field",
        ),
    ],
)
def test_what_is_no_yaml_for_us_is_said_with_its_line(tmp_path: Path, content: str | bytes, said: list[str]) -> None:
    assert read_text(tmp_path, content) == said


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        ("1.50", 1.5),
        (".5", 0.5),
        ("-0", 0),
        ("0", 0),
        ("0o17", 15),
        ("0x10", 16),
        ("0b11", "0b11"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("=", "="),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("'5'", "5"),
        ("Qwen/Qwen3-8B:Q4_K_M", "Qwen/Qwen3-8B:Q4_K_M"),
        ("'<<'", "<<"),
        ("[<<]", ["<<"]),
        ("{1: a, true: b}", {"1": "a", "true": "b"}),
    ],
)
def test_a_scalar_means_what_it_looks_like(tmp_path: Path, written: str, meant: object) -> None:
    value = read_text(tmp_path, f"a: {written}")["a"]
    assert (value, type(value)) == (meant, type(meant))


def test_nan_is_a_number(tmp_path: Path) -> None:
    assert math.isnan(read_text(tmp_path, "a: .nan")["a"])


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    assert read_text(tmp_path, "\ufeffa: 1") == {"a": 1}


def test_a_file_of_the_limit_is_fine(tmp_path: Path) -> None:
    assert read_text(tmp_path, "a: 1\n".ljust(MAX_BYTES, "#")) == {"a": 1}


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"^f\.yaml:1: cannot be read: no such file or directory$"):
        read(tmp_path / "nowhere.yaml", Problems("f.yaml"))
    with pytest.raises(DocumentError, match=r"^f\.yaml:1: cannot be read: is a directory$"):
        read(tmp_path, Problems("f.yaml"))


def test_merge_keys_follow_their_order_and_own_keys_win(tmp_path: Path) -> None:
    content = "base: &base {a: 1, b: 1}\nmore: &more {<<: *base, b: 2, c: 2}\nall: {c: 3, <<: [*more, {d: 4}]}\n"
    assert read_text(tmp_path, content)["all"] == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_values_stand_where_their_keys_stand(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("a: &a\n  b: 1\nc:\n  <<: *a\n  d:\n  - 1\n  - 2\ne: *a\n")
    root = read(path, Problems("f.yaml"))
    place = {node.path: node.line for node in _walk(root)}
    assert place == {"": 1, "a": 1, "a.b": 2, "c": 3, "c.b": 2, "c.d": 5, "c.d[0]": 6, "c.d[1]": 7, "e": 8, "e.b": 2}


def _walk(node: Node) -> list[Node]:
    children = node.value.values() if isinstance(node.value, dict) else node.value
    inner = children if not isinstance(children, str | int | float | None) else ()
    return [node, *(found for child in inner for found in _walk(child))]


class Door(FileModel):
    """A mapping with a key that must be there and one that need not."""

    width_m: Annotated[int, whole(1, 9), Field(validation_alias="width", description="Width, m.")]
    colour: Annotated[str, choice("red", "green", "blue"), Field(description="Colour.")] = "red"


@pytest.mark.parametrize(
    ("kind", "written", "said"),
    [
        (whole(1), "four", "a: expected a whole number from 1, got 'four'"),
        (whole(1), "'4'", "a: expected a whole number from 1, got '4' as text; write 4 without quotes"),
        (whole(1), "1_000", "a: expected a whole number from 1, got '1_000'"),
        (whole(1), "0", "a: expected a whole number from 1, got 0"),
        (whole(1), "2.0", "a: expected a whole number from 1, got 2.0"),
        (whole(1), "true", "a: expected a whole number from 1, got true"),
        (whole(1), "", "a: expected a whole number from 1, got nothing"),
        (whole(1), "[1]", "a: expected a whole number from 1, got a list"),
        (whole(1), "[]", "a: expected a whole number from 1, got an empty list"),
        (whole(1), "{a: 1}", "a: expected a whole number from 1, got a mapping"),
        (whole(1), "{}", "a: expected a whole number from 1, got an empty mapping"),
        (whole(1), ".nan", "a: expected a whole number from 1, got .nan"),
        (whole(1), "x" * 50, f"a: expected a whole number from 1, got '{'x' * 40}…'"),
        (whole(0, 2), "3", "a: expected a whole number from 0 to 2, got 3"),
        (number(0, 1), "1.5", "a: expected a number from 0 to 1, got 1.5"),
        (number(0, 1), "-1", "a: expected a number from 0 to 1, got -1"),
        (number(0), ".inf", "a: expected a number from 0, got .inf"),
        (number(0), "1e999", "a: expected a number from 0, got 1e999"),
        (number(0), ".nan", "a: expected a number from 0, got .nan"),
        (number(0), "false", "a: expected a number from 0, got false"),
        (number(0), "'1e3'", "a: expected a number from 0, got '1e3' as text; write 1e3 without quotes"),
        (text(), "7", 'a: expected text, got 7; write "7" in quotes'),
        (text(), "true", 'a: expected text, got true; write "true" in quotes'),
        (text(), "''", "a: expected text, got ''"),
        (text(), "", "a: expected text, got nothing"),
        (choice("a", "b", "c"), "d", "a: expected a, b or c, got 'd'"),
        (flag(), "yes", "a: expected true or false, got 'yes'"),
        (percentage(), "0.1", "a: 0.1 may mean 0.1% or 10%; write it with its % sign"),
        (percentage(), "ten", "a: expected a percentage such as 10%, got 'ten'"),
        (percentage(), "true", "a: expected a percentage such as 10%, got true"),
        (percentage(), "-5", "a: expected a percentage such as 10%, got -5"),
        (percentage(), ".nan", "a: expected a percentage such as 10%, got .nan"),
        (percentage(), ".inf", "a: expected a percentage such as 10%, got .inf"),
        (percentage(below=1), "100%", "a: expected a percentage such as 10%, below 100%, got '100%'"),
        (duration(), "12:30", "a: expected a time such as 30s, 5m or 250ms, got '12:30'"),
        (duration(), "0s", "a: expected a time such as 30s, 5m or 250ms, got '0s'"),
        (duration(), "-1", "a: expected a time such as 30s, 5m or 250ms, got -1"),
        (duration(), ".inf", "a: expected a time such as 30s, 5m or 250ms, got .inf"),
        (duration(), "", "a: expected a time such as 30s, 5m or 250ms, got nothing"),
        (OneOrMore(whole(1)), "[]", "a: expected at least one item, got an empty list"),
        (OneOrMore(whole(1)), "[2, 1, 2]", "a[2]: 2 stands twice; keep one of them"),
        (OneOrMore(whole(1)), "x", "a: expected a whole number from 1, got 'x'"),
        (OneOrMore(whole(1)), "[1, x]", "a[1]: expected a whole number from 1, got 'x'"),
        (OneOrMore(Door), "[{width: 1}, {width: 1}]", "a[1]: the same stands twice; keep one of them"),
        (Keyed({"top": whole(1)}), "3", "a: expected a mapping, got 3"),
        (Keyed({"top": whole(1)}), "{tpo: 3}", "a.tpo: unknown key; did you mean 'top'?"),
        (Named(text(), whole(1), "a mapping of names"), "[]", "a: expected a mapping of names, got an empty list"),
        (Named(choice("x", "y"), whole(1), "names"), "{z: 1}", "a.z: expected x or y, got 'z'"),
        (Named(text(), whole(1), "names"), "{z: 0}", "a.z: expected a whole number from 1, got 0"),
        (Door, "3", "a: expected a mapping with width, got 3"),
        (Door, "{}", "a.width: is missing; expected a whole number from 1 to 9"),
        (Door, "{width: 0}", "a.width: expected a whole number from 1 to 9, got 0"),
        (Door, "{width: 1, hinge: left}", "a.hinge: unknown key; known are width, colour"),
    ],
)
def test_what_does_not_fit_a_shape_is_said(tmp_path: Path, kind: ValueType, written: str, said: str) -> None:
    assert read_one(tmp_path, kind, written) == [f"f.yaml:1: {said}"]


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        (whole(1), "1", 1),
        (whole(0, 2), "2", 2),
        (number(0, 1), "1", 1),
        (number(0, 1), "1.0", 1.0),
        (text(), "no", "no"),
        (choice("a", "b"), "b", "b"),
        (flag(), "true", True),
        (percentage(), "10%", 0.1),
        (percentage(), "10", 0.1),
        (percentage(), "0", 0.0),
        (percentage(), "1", 0.01),
        (percentage(), "250 %", 2.5),
        (percentage(below=1), "99.5%", 0.995),
        (duration(), "1.5m", 90.0),
        (duration(), "250ms", 0.25),
        (duration(), "30", 30.0),
        (OneOrMore(whole(1)), "3", (3,)),
        (OneOrMore(whole(1)), "[3, 1]", (3, 1)),
        (Keyed({"x": whole(1), "y": whole(1)}), "{y: 2}", {"y": 2}),
        (Named(text(), whole(1), "names"), "{q: 2}", {"q": 2}),
    ],
)
def test_what_fits_is_read(tmp_path: Path, kind: ValueType, written: str, value: object) -> None:
    got = read_one(tmp_path, kind, written)
    assert (got, type(got)) == (value, type(value))


def read_one(folder: Path, kind: ValueType, written: str) -> object:
    """The value under ``a`` read as one type, or its problems as lines."""
    path = folder / "f.yaml"
    path.write_text(f"a: {written}\n")
    problems = Problems("f.yaml")
    value = read_value(kind, read(path, problems).child("a"), problems)
    try:
        problems.raise_any()
    except DocumentError as error:
        return str(error).splitlines()
    return value


def test_a_model_keeps_what_is_right_for_later_checks(tmp_path: Path) -> None:
    class House(FileModel):
        doors: Annotated[tuple[Door, ...], OneOrMore(Door)]
        by_name: Annotated[dict[str, Door], Named(choice("front", "back"), Door, "doors")]
        sizes: Annotated[tuple[int, ...], OneOrMore(whole(1))]
        main: Door
        spare: Door
        floors: Annotated[int, whole(1)] = 2

    path = tmp_path / "f.yaml"
    path.write_text(
        "doors: [{width: wide, colour: blue}, 3, {width: 1}]\nby_name: {front: {width: 1}, side: {width: 2}}\n"
        "sizes: [1, x, 3]\nmain: [1]\nfloors:\n"
    )
    problems = Problems("f.yaml")
    house = read_as(House, read(path, problems), problems)
    assert [(door.width_m, door.colour) for door in house.doors] == [(0, "blue"), (1, "red")]
    assert [door.node.path for door in house.doors] == ["doors[0]", "doors[2]"]
    assert (list(house.by_name), house.sizes, house.floors) == (["front"], (1, 3), 2)
    assert (house.main.width_m, house.spare.width_m, house.spare.colour) == (0, 0, "red")
    with pytest.raises(DocumentError) as caught:
        problems.raise_any()
    assert str(caught.value).splitlines() == [
        "f.yaml:1: doors[0].width: expected a whole number from 1 to 9, got 'wide'",
        "f.yaml:1: doors[1]: expected a mapping with width, got 3",
        "f.yaml:1: spare: is missing; expected a mapping with width",
        "f.yaml:2: by_name.side: expected front or back, got 'side'",
        "f.yaml:3: sizes[1]: expected a whole number from 1, got 'x'",
        "f.yaml:4: main: expected a mapping with width, got a list",
        "f.yaml:5: floors: expected a whole number from 1, got nothing",
    ]


def test_a_model_takes_the_values_of_python_code_as_they_are() -> None:
    door = Door(width_m=3)
    assert (door.width_m, door.colour, door.model_fields_set) == (3, "red", {"width_m"})
    with pytest.raises(ValueError, match="frozen"):
        door.colour = "blue"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (whole(1), {"type": "integer", "minimum": 1}),
        (whole(0, 2), {"type": "integer", "minimum": 0, "maximum": 2}),
        (number(0, 1), {"type": "number", "minimum": 0, "maximum": 1}),
        (choice("a", "b"), {"type": "string", "enum": ["a", "b"]}),
        (
            OneOrMore(flag()),
            {
                "anyOf": [
                    {"type": "boolean"},
                    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "uniqueItems": True},
                ]
            },
        ),
        (Named(text(), flag(), "flags"), {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (
            Keyed({"x": flag()}),
            {"type": "object", "properties": {"x": {"type": "boolean"}}, "additionalProperties": False},
        ),
    ],
)
def test_types_have_a_json_schema(kind: ValueType, schema: dict[str, Any]) -> None:
    assert write_value_schema(kind) == schema


def test_a_file_has_a_json_schema() -> None:
    assert write_json_schema(Door, "doors") == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "doors",
        "description": "A mapping with a key that must be there and one that need not.",
        "type": "object",
        "properties": {
            "width": {"type": "integer", "minimum": 1, "maximum": 9, "description": "Width, m."},
            "colour": {"type": "string", "enum": ["red", "green", "blue"], "description": "Colour.", "default": "red"},
        },
        "additionalProperties": False,
        "required": ["width"],
    }


def test_the_nearest_word_is_suggested() -> None:
    assert suggest("concurency", ["grid", "concurrency"]) == "did you mean 'concurrency'?"
    assert suggest("zzz", ["grid", "concurrency"]) == "known are grid, concurrency"
