"""Room 1: files with own prompts: what they hold, what is wrong with them, and what of a suite goes with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_boobench.errors import DocumentError
from pytest_boobench.metrics import Kind
from pytest_boobench.suite import prompt_file
from pytest_boobench.suite.cell import Cell
from pytest_boobench.suite.prompt_file import PromptFile, read_prompts
from tests.suite.test_suite import load, refuse

PNG = b"\x89PNG\r\n\x1a\n"
SECRET = "the text of a user"


def write(folder: Path, *lines: Mapping[str, Any], name: str = "day.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def read(folder: Path, *lines: Mapping[str, Any], kind: Kind = "chat") -> PromptFile:
    return read_prompts(write(folder, *lines), "day.jsonl", kind)


def refuse_lines(path: Path, kind: Kind = "chat") -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read_prompts(path, path.name, kind)
    assert SECRET not in str(caught.value)
    return str(caught.value).splitlines()


def test_lines_are_prompts_and_blank_lines_count_only_for_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    path = write(tmp_path, {"text": "a", "images": ["a.png"], "at_s": 2}, {"prompt_tokens": 8, "output_tokens": 3})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    found = read_prompts(path, "day.jsonl", "chat")
    own, made = found.lines
    assert (found.stem, own.number, own.text, own.at_s, made.number) == ("day", 1, "a", 2.0, 3)
    assert (own.images[0].media_type, own.images[0].content, made.output_tokens) == ("image/png", PNG, 3)
    assert "a" not in repr(own).replace("at_s", "").partition("text")[2].partition(",")[0]


def test_the_hash_is_of_what_is_sent(tmp_path: Path) -> None:
    """Not of the order of keys, of blank lines and of the names of images; but of their bytes."""
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.png").write_bytes(PNG)
    (tmp_path / "c.png").write_bytes(PNG + b"c")
    lines = [{"text": "a", "output_tokens": 3, "images": ["a.png"]}, {"text": "b"}]
    first = read(tmp_path, *lines)
    assert first.sha256 == read(tmp_path, {"images": ["b.png"], "output_tokens": 3, "text": "a"}, lines[1]).sha256
    assert first.sha256 != read(tmp_path, {**lines[0], "images": ["c.png"]}, lines[1]).sha256
    assert first.sha256 != read(tmp_path, *reversed(lines)).sha256
    assert first.take(1).sha256 == read(tmp_path, lines[0]).sha256


WRONG: list[tuple[Mapping[str, Any], str]] = [
    ({"text": SECRET, "txt": 1}, "1: txt: is no field of a prompt; did you mean 'text'?"),
    ({}, "1: expected one of text, messages and prompt_tokens, got none of them"),
    (
        {"text": SECRET, "prompt_tokens": 3},
        "1: expected one of text, messages and prompt_tokens, got text and prompt_tokens",
    ),
    ({"text": ""}, "1: text: expected a text, got an empty text"),
    ({"text": [SECRET]}, "1: text: expected a text, got a list"),
    ({"prompt_tokens": 1.5}, "1: prompt_tokens: expected a whole number from 1, got 1.5"),
    ({"prompt_tokens": True}, "1: prompt_tokens: expected a whole number from 1, got true"),
    ({"text": "a", "output_tokens": SECRET}, "1: output_tokens: expected a whole number from 1, got a text"),
    ({"text": "a", "at_s": -1}, "1: at_s: expected seconds from 0, got -1"),
    ({"text": "a", "at_s": float("nan")}, "1: at_s: expected seconds from 0, got no usual number"),
    ({"messages": []}, "1: messages: expected a list of messages, got an empty list"),
    ({"messages": [SECRET]}, "1: messages[0]: expected an object with role and content, got a text"),
    (
        {"messages": [{"role": SECRET, "content": "a"}]},
        "1: messages[0].role: expected one of system, developer, user, assistant, tool",
    ),
    (
        {"messages": [{"role": "user", "content": [SECRET]}]},
        "1: messages[0].content: expected a text, got a list; pictures stand under images",
    ),
    ({"text": "a", "images": "a.png"}, "1: images: expected a list of paths, got a text"),
    ({"text": "a", "images": ["none.png"]}, "1: images[0]: none.png cannot be read: no such file or directory"),
    (
        {"text": "a", "images": ["day.jsonl"]},
        "1: images[0]: day.jsonl is no picture of a known type; expected png, jpeg, webp or gif",
    ),
    (
        {"messages": [{"role": "system", "content": "a"}], "images": ["ok.png"]},
        "1: images: pictures are sent with own text, in the last message of the role user; there is none",
    ),
    ({"text": "a", "turn": 1}, "1: conversation: conversation and turn stand together; write both or neither"),
    (
        {"text": "a", "conversation": "c", "turn": 2},
        "1: turn: expected 1, the next turn of its conversation, got 2",
    ),
    (
        {"prompt_tokens": 9, "cached_tokens": 4},
        "1: cached_tokens: only a made-up text (prompt_tokens) of a later turn repeats tokens; leave it out",
    ),
]


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_wrong_is_said_with_file_line_and_field(tmp_path: Path, line: Mapping[str, Any], said: str) -> None:
    (tmp_path / "ok.png").write_bytes(PNG)
    assert refuse_lines(write(tmp_path, line)) == [f"day.jsonl:{said}"]


def test_a_later_turn_repeats_no_more_than_it_has(tmp_path: Path) -> None:
    first = {"prompt_tokens": 9, "conversation": "c", "turn": 1}
    path = write(tmp_path, first, {**first, "turn": 2, "cached_tokens": 10})
    assert refuse_lines(path) == ["day.jsonl:2: cached_tokens: expected at most the 9 tokens of the prompt, got 10"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "1: the file has no prompt; expected one JSON object a line"),
        (b"\n\n", "1: the file has no prompt; expected one JSON object a line"),
        (b"[1]\n3\n", '1: expected an object such as {"text": "\xe2\x80\xa6"}, got a list'),
        (
            b'{"text": "the text of a user"',
            "1: not JSON: Expecting ',' delimiter at character 30; expected one object a line",
        ),
        (b'{"text": "a"}\n\xff\n', "2: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b'{"text": "\\ud800"}', "1: holds half a character (\\ud800 to \\udfff); write the whole one"),
        (b"[" * 3000, "1: expected an object with at most 64 levels and numbers of usual size"),
        (b'{"text": ' + b'"' + b"a" * 200 + b'"}', "1: the file is larger than 5,000 bytes; keep a part of its lines"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str) -> None:
    monkeypatch.setattr(prompt_file, "MOST_BYTES", 5000)
    path = tmp_path / "day.jsonl"
    path.write_bytes(content * (30 if b"aaa" in content else 1))
    assert refuse_lines(path)[0] == f"day.jsonl:{said.encode('latin-1').decode() if 'â' in said else said}"


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    assert refuse_lines(tmp_path / "none.jsonl") == ["none.jsonl:1: cannot be read: no such file or directory"]
    assert refuse_lines(tmp_path)[0].endswith(":1: cannot be read: is a directory")


def test_images_are_limited_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_file, "MOST_BYTES", 300)
    (tmp_path / "a.png").write_bytes(PNG + bytes(200))
    path = write(tmp_path, {"text": "a", "images": ["a.png", "a.png"]})
    assert refuse_lines(path) == [
        "day.jsonl:1: images[1]: the images together are larger than 300 bytes; keep a part of them"
    ]


@pytest.mark.parametrize("kind", ["completion", "embedding"])
def test_only_a_chat_has_messages_images_and_conversations(tmp_path: Path, kind: Kind) -> None:
    path = write(
        tmp_path, {"messages": [{"role": "user", "content": "a"}]}, {"text": "a", "conversation": "c", "turn": 1}
    )
    about = f"kind {kind} has none; leave it out, or say kind: chat"
    assert refuse_lines(path, kind) == [f"day.jsonl:1: messages: {about}", f"day.jsonl:2: conversation: {about}"]


# --- suites

HEAD = "suite: s\nhosts: [embedded]\nmodels: [m]\n"
GRID = "prompts: day.jsonl\ngrid: {output_tokens: [8]}\n"


def cells_of(folder: Path, text: str) -> tuple[Cell, ...]:
    return load(folder, HEAD + text).cells


@pytest.mark.parametrize(
    ("more", "lines", "samples", "taken"),
    [
        ("", 3, 12, 3),
        ("", 14, 14, 14),
        ("samples: 7\n", 3, 6, 3),
        ("samples: 2\n", 3, 2, 2),
        ("rate: 1\n", 7, 35, 7),
        ("rate: 1\nduration: 8s\n", 7, 14, 7),
        ("arrival: recorded\n", 3, 3, 3),
        ("arrival: recorded\nsamples: 9\n", 3, 3, 3),
    ],
)
def test_samples_are_whole_passes_or_the_first_prompts(
    tmp_path: Path, more: str, lines: int, samples: int, taken: int
) -> None:
    write(tmp_path, *({"text": f"a{number}", "at_s": number} for number in range(lines)))
    (cell,) = cells_of(tmp_path, GRID + more)
    assert cell.own is not None
    assert (cell.plan.samples, len(cell.own.lines), cell.prompts) == (samples, taken, cell.own.sha256)


def test_the_file_is_in_identity_and_id(tmp_path: Path) -> None:
    write(tmp_path, {"text": "a", "output_tokens": 3, "at_s": 0})
    one, two = cells_of(tmp_path, "prompts: day.jsonl\ngrid: {concurrency: [1, 2]}\n")
    (at_rate,) = cells_of(tmp_path, "prompts: day.jsonl\ngrid: {}\nrate: 2\n")
    (replay,) = cells_of(tmp_path, "prompts: day.jsonl\ngrid: {}\narrival: recorded\n")
    ids = [cell.id for cell in (one, two, at_rate, replay)]
    assert ids == ["prompts-day-c1", "prompts-day-c2", "prompts-day-rate2", "prompts-day"]
    assert one.identity["prompts"] == two.identity["prompts"]
    assert "prompt_tokens" not in one.identity
    assert (one.planned, at_rate.planned, replay.planned) == (False, True, True)
    write(tmp_path, {"text": "b", "output_tokens": 3})
    assert one.key not in {cell.key for cell in cells_of(tmp_path, "prompts: day.jsonl\ngrid: {concurrency: [1, 2]}\n")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "prompts: day.jsonl\ngrid: {}\n",
            "5: grid.output_tokens: is missing; line 1 of day.jsonl has no output_tokens, and the grid none for it",
        ),
        (
            "prompts: day.jsonl\ngrid: {output_tokens: 8, prompt_tokens: 8}\n",
            "5: grid.prompt_tokens: stands beside prompts, which have lengths of their own; leave it out",
        ),
        (
            "prompts: all.jsonl\ngrid: {output_tokens: 8}\n",
            "5: grid.output_tokens: stands beside all.jsonl, where each line has its own; leave it out",
        ),
        (
            f"{GRID}turns: 2\n",
            "4: prompts: does not go with turns: the file says which prompts are a conversation; leave turns out",
        ),
        (
            f"{GRID}arrival: recorded\n",
            "6: arrival: recorded needs at_s on each line; line 2 of day.jsonl has none",
        ),
        (
            "prompts: all.jsonl\ngrid: {}\narrival: recorded\n",
            "6: arrival: recorded needs lines in the order of their at_s; line 2 of all.jsonl is early",
        ),
        (
            "grid: {prompt_tokens: 8, output_tokens: 8}\narrival: recorded\n",
            "5: arrival: recorded needs prompts with at_s on each line; write prompts: FILE.jsonl",
        ),
        (
            f"{GRID}rate: 1\narrival: recorded\n",
            "7: arrival: recorded has the times of the prompts; leave rate out, or write constant or poisson",
        ),
        (
            "prompts: none.jsonl\ngrid: {output_tokens: 8}\n",
            "none.jsonl:1: cannot be read: no such file or directory",
        ),
    ],
)
def test_what_does_not_go_with_own_prompts_is_said(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, {"text": "a", "at_s": 0}, {"text": "b"})
    write(
        tmp_path,
        {"text": "a", "output_tokens": 3, "at_s": 2},
        {"text": "b", "output_tokens": 3, "at_s": 1},
        name="all.jsonl",
    )
    assert said in refuse(tmp_path, HEAD + text)
