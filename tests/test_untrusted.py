"""JSON and text from outside: any shape is a plain value or a named fault, and no secret comes through."""

from __future__ import annotations

import base64
import html
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_boobench import untrusted
from pytest_boobench.errors import HostError
from pytest_boobench.untrusted import HIDDEN, Fault, clean, clean_lines, get_count, get_number, parse_json

KEY = "sk-untrusted-0123456789abcdef"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "_SECRETS", untrusted._Secrets())
    untrusted.learn_secret(KEY)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (f"you sent Bearer {KEY}, which", f"you sent Bearer {HIDDEN}, which"),
        (f"{KEY[:8]}…", f"{HIDDEN}…"),
        (f"{KEY[:15]}…", f"{HIDDEN}…"),
        (f"…{KEY[-8:]} is wrong", f"…{HIDDEN} is wrong"),
        (f"…{KEY[-12:]} is wrong", f"…{HIDDEN} is wrong"),
        (f"{KEY}{KEY}", f"{HIDDEN}{HIDDEN}"),
        (KEY[:7], KEY[:7]),
        ("nothing of it", "nothing of it"),
        ("c2stdW50cnVzdGVkLTAxMjM0NTY3ODlhYmNkZWY=", f"{HIDDEN}="),
    ],
)
def test_secrets_are_hidden_whole_and_in_part(text: str, right: str) -> None:
    assert clean(text) == right


def test_short_secrets_are_hidden_whole() -> None:
    untrusted.learn_secret("hunter2")
    assert clean("hunter2 hunter") == f"{HIDDEN} hunter"


AWKWARD = 'sk+echo/9f"2Z&<7q>-secret-tail=e8'


@pytest.mark.parametrize(
    "form",
    [
        AWKWARD,
        quote(AWKWARD),
        quote(AWKWARD, safe=""),
        quote(AWKWARD, safe="").lower().replace("2z", "2Z"),
        json.dumps(AWKWARD)[1:-1],
        html.escape(AWKWARD),
        base64.b64encode(AWKWARD.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(AWKWARD.encode()).decode().rstrip("="),
    ],
)
def test_all_forms_of_a_secret_are_hidden(form: str) -> None:
    untrusted.learn_secret(AWKWARD)
    assert clean(f"a {form} b") == f"a {HIDDEN} b"
    for cut in range(8, len(form)):
        assert clean(f"{form[:cut]}… …{form[-cut:]}") == f"{HIDDEN}… …{HIDDEN}"


@pytest.mark.parametrize("before", ["user:", "me:", "Bearer "])
def test_base64_of_more_than_the_secret_shows_nothing_of_it(before: str) -> None:
    encoded = base64.b64encode(f"{before}{KEY} and so on".encode()).decode()
    start = -(-len(before) * 8 // 6)
    rest = clean(encoded).replace(HIDDEN, "")
    assert HIDDEN in clean(encoded)
    assert encoded[start : start + 8] not in rest
    assert len(rest) <= len(encoded) - len(KEY) * 8 // 6 + 2


def test_hiding_twice_is_hiding_once() -> None:
    untrusted.learn_secret("secret")
    assert clean(clean("the secret, secretly")) == f"the {HIDDEN}, secretly"


@pytest.mark.parametrize("secret", ["", "a", "abc"])
def test_what_is_too_short_is_no_secret(secret: str) -> None:
    untrusted.learn_secret(secret)
    assert clean("a abc") == "a abc"


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql://me:hun%24ter22@db/bench", "hun$ter22"),
        ("postgresql://me:p@ss@word@db/bench", "p@ss@word"),
        ("postgresql://db/bench?password=correct-horse", "correct-horse"),
    ],
)
def test_the_password_of_a_url_is_hidden(url: str, password: str) -> None:
    untrusted.learn_url(url)
    assert clean(f"me: {password}") == f"me: {HIDDEN}"
    assert password not in clean(url)


def test_a_password_that_the_address_shows_is_none() -> None:
    untrusted.learn_url("postgresql://postgres:postgres@db/bench")
    assert clean("postgresql://postgres:***@db/bench") == "postgresql://postgres:***@db/bench"


def test_plain_data_leaves_without_secrets() -> None:
    untrusted.learn_secret("short1")
    untrusted.learn_secret("baseline_of_ours")
    plain = {KEY: [1, None, f"x{KEY}"], f"{KEY[:8]}…": ("short1", KEY[:9]), "baseline": "baseline_of_ours"}
    right = {HIDDEN: [1, None, f"x{HIDDEN}"], f"{HIDDEN}…": ("short1", HIDDEN), "baseline": HIDDEN}
    assert untrusted.hide_in(plain) == right


def test_secrets_broken_by_control_characters_are_hidden() -> None:
    assert KEY[10:] not in clean(f"{KEY[:10]}\x1b[31m{KEY[10:]}\x00")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("a\x00b", "a b"),
        ("a\x1b[31mred\x1b[0m", "ared"),
        ("\x1b]0;title\x07x", "x"),
        ("a\r\n\tb", "a b"),
        ("\u202eabc", "abc"),
        ("half \ud800 pair", "half pair"),
        ("größer 日本", "größer 日本"),
    ],
)
def test_nothing_steers_a_terminal(text: str, right: str) -> None:
    assert clean(text) == right


def test_lines_stay() -> None:
    assert clean_lines(f"one\x1b[2J\n{KEY}\n") == f"one\n{HIDDEN}\n"


def test_an_error_holds_no_key() -> None:
    assert str(HostError(f"rack: 401: {KEY}\x07")) == f"rack: 401: {HIDDEN} "


@pytest.mark.parametrize("text", ["[" * 900 + "]" * 900, "[" * 100_000, '{"a":' * 70 + "1" + "}" * 70])
def test_deep_json_is_a_fault(text: str) -> None:
    with pytest.raises(Fault, match="nested more than 64 levels"):
        parse_json(text)


def test_brackets_in_strings_are_not_deep() -> None:
    assert parse_json(json.dumps("[" * 500)) == "[" * 500


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (-1, "-1"),
        (1.5, "1.5"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (10**400, "a number of more than 60 digits"),
        ("8", "8"),
        ([8], "a list"),
        ({"a": 1}, "an object"),
        (True, "true"),
    ],
)
def test_a_count_that_is_none(value: Any, shown: str) -> None:
    with pytest.raises(Fault) as fault:
        get_count({"n": value}, "n", "usage")
    assert str(fault.value) == f"usage.n is {shown}, expected a whole number from 0"


def test_counts_and_numbers() -> None:
    source = {"n": 8.0, "zero": 0, "ms": 1.5, "none": None}
    assert (get_count(source, "n"), get_count(source, "zero"), get_count(source, "none")) == (8, 0, None)
    assert (get_number(source, "ms"), get_number(source, "gone")) == (1.5, None)
    with pytest.raises(Fault, match=r"timings\.zero is 0, expected a number above 0"):
        get_number(source, "zero", "timings", above=0)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(_JSON)
def test_readers_are_total(value: Any) -> None:
    source = {"key": value}
    for read in (untrusted.get_object, untrusted.get_list, untrusted.get_text, get_count, get_number):
        try:
            read(source, "key", "answer")
        except Fault as fault:
            assert str(fault).startswith("answer.key is ")
    for to in (untrusted.to_object, untrusted.to_objects, untrusted.to_texts, untrusted.to_text):
        to(value)
    json.dumps(untrusted.clean_json(value))
