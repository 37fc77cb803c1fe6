"""What the user says on the command line, in the environment and in the configuration file, as the session takes it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_boobench import BASELINE
from pytest_boobench.plugin.settings import Settings, resolve

USUAL = {"max_drop": 0.1, "max_time": None, "load_timeout": None, "wait": 0.0, "block_gap": 60.0, "quiet": 2.0}
PLACES = {
    "typed": ("max_drop", "max_time", "load_timeout", "wait"),
    "environment": ("max_drop", "max_time", "load_timeout"),
    "ini": ("max_drop", "max_time", "load_timeout", "block_gap", "quiet"),
}
"""Where something can be said -> the numbers that can be said there."""
places = pytest.mark.parametrize("place", PLACES)


def read(settings: Settings, name: str) -> float | None:
    """A number as the session uses it; of the allowed drop what holds where a suite does not say."""
    rules = settings.rules
    if name == "max_drop":
        return rules.default_max_drop if rules.max_drop is None else rules.max_drop
    value: float | None = getattr(settings, f"{name}_s")
    return value


class Session:
    """A session's settings, by what is said where: setting -> text."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        self._monkeypatch = monkeypatch

    def settle(
        self,
        typed: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        ini: Mapping[str, str] | None = None,
    ) -> Settings:
        for name, text in (environment or {}).items():
            self._monkeypatch.setenv(f"BOOBENCH_{name.upper()}", text)
        lines = [f"boobench_{name} = {text}\n" for name, text in (ini or {}).items()]
        self._pytester.makeini("".join(["[pytest]\n", *lines]))
        args = [f"--boobench-{name.replace('_', '-')}={text}" for name, text in (typed or {}).items()]
        return resolve(self._pytester.parseconfig("--boobench", *args))


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Session:
    return Session(pytester, monkeypatch)


def write(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """The same number for each of them, a drop in per cent."""
    return {name: f"{text}%" if name == "max_drop" else f"{text}s" for name in names}


@places
def test_zero_is_a_number(session: Session, place: str) -> None:
    """It once meant what is usual."""
    names = PLACES[place]
    for said in (write("0", names), dict.fromkeys(names, "0")):
        settings = session.settle(**{place: said})
        assert {name: read(settings, name) for name in names} == dict.fromkeys(names, 0.0)


def test_zero_wins_over_what_stands_below(session: Session) -> None:
    names = PLACES["environment"]
    zero, other = write("0", names), write("30", names)
    settings = session.settle(environment=zero, ini=other)
    assert {name: read(settings, name) for name in names} == dict.fromkeys(names, 0.0)
    settings = session.settle(typed=zero, environment=other, ini=other)
    assert {name: read(settings, name) for name in names} == dict.fromkeys(names, 0.0)


def test_an_empty_text_in_the_environment_or_file_says_nothing(session: Session) -> None:
    """CI systems set a variable that has no value to an empty text."""
    empty = {place: dict.fromkeys(PLACES[place], "") for place in ("environment", "ini")}
    settings = session.settle(**empty)
    assert {name: read(settings, name) for name in USUAL} == USUAL


@pytest.mark.parametrize("name", PLACES["typed"])
def test_an_empty_text_on_the_command_line_is_refused(session: Session, name: str) -> None:
    """``--boobench-max-drop=$DROP`` without the variable must not mean 10 %."""
    wanted = "a percentage such as 10%" if name == "max_drop" else "a time such as 30s, 5m or 250ms"
    with pytest.raises(pytest.UsageError, match=f"^--boobench-{name.replace('_', '-')}: expected {wanted}, got ''$"):
        session.settle(typed={name: ""})


@pytest.mark.parametrize(
    ("place", "name", "where"),
    [
        ("typed", "wait", "--boobench-wait"),
        ("typed", "max_drop", "--boobench-max-drop"),
        ("environment", "max_drop", "BOOBENCH_MAX_DROP"),
        ("environment", "load_timeout", "BOOBENCH_LOAD_TIMEOUT"),
        ("ini", "max_drop", "boobench_max_drop"),
        ("ini", "max_time", "boobench_max_time"),
        ("ini", "quiet", "boobench_quiet"),
    ],
)
def test_a_message_names_the_place(session: Session, place: str, name: str, where: str) -> None:
    with pytest.raises(pytest.UsageError, match=f"^{where}: expected a (percentage|time) such as .*, got 'soon'$"):
        session.settle(**{place: {name: "soon"}})


def test_an_empty_name_is_none(session: Session) -> None:
    none = {"baseline": ""}
    assert session.settle(typed=none, environment={"baseline": "release"}).baseline == "release"
    assert session.settle(typed=none, environment=none, ini={"baseline": "nightly"}).baseline == "nightly"
    assert session.settle(typed=none, environment=none, ini=none).baseline == BASELINE


def test_files_are_relative_to_where_they_are_named(session: Session, pytester: pytest.Pytester) -> None:
    below = pytester.mkdir("below")
    assert session.settle(ini={"baseline_file": "base.yaml"}).baseline_file == pytester.path / "base.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(below)
        assert session.settle(typed={"baseline_file": "base.yaml"}).baseline_file == below / "base.yaml"


@pytest.mark.parametrize(
    ("text", "host", "model"),
    [
        ("old", "old", None),
        ("swap::qwen3-8b", "swap", "qwen3-8b"),
        ("swap::org/model:Q4_K_M", "swap", "org/model:Q4_K_M"),
        ("swap::odd::name", "swap", "odd::name"),
    ],
)
def test_the_other_side_of_a_duet(session: Session, text: str, host: str, model: str | None) -> None:
    settings = session.settle(typed={"duet": text})
    assert (settings.duet, settings.duet_model) == (host, model)


def test_how_narrow_a_duet_is_to_be(session: Session) -> None:
    assert session.settle(ini={"duet_until": "2%"}).duet_until == 0.02
    assert session.settle(environment={"duet_until": "1"}, ini={"duet_until": "2%"}).duet_until == 0.01
    assert session.settle(typed={"duet": "old", "duet_until": "0.5%"}, ini={"duet_until": "2%"}).duet_until == 0.005
    with pytest.raises(pytest.UsageError, match=r"^--boobench-duet-until: expected more than 0 %, got '0%'$"):
        session.settle(typed={"duet": "old", "duet_until": "0%"})
    with pytest.raises(
        pytest.UsageError, match=r"^boobench_duet_until: expected a percentage such as 10%, got 'narrow'$"
    ):
        session.settle(environment={"duet_until": ""}, ini={"duet_until": "narrow"})


def test_a_width_without_a_duet(session: Session) -> None:
    said = "^--boobench-duet-until: there is no duet; name its other side with --boobench-duet HOST$"
    with pytest.raises(pytest.UsageError, match=said):
        session.settle(typed={"duet_until": "1%"})
