"""The HTML report in a real Chromium: what people see, click, hear and print. Screenshots lie in pytest's folder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_boobench.reports import html
from pytest_boobench.reports.session import Unmeasured
from tests.chromium import (
    NARROW,
    WINDOW,
    Heard,
    click,
    find_chromium,
    find_middle,
    list_nodes,
    open_file,
    run_chromium,
    settle,
    wait_until,
)
from tests.histories import (
    CELL,
    Fate,
    follow_cell,
    judge_as,
    make_aggregate,
    make_measurement,
    make_run,
    make_team,
    render,
    render_large,
)
from tests.making import make_cell
from tests.reports.test_html import HOSTILE, hostile_history

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: apt-get install chromium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pages and screenshots lie."""
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with run_chromium(CHROMIUM) as running:
        yield running


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport=WINDOW)
    page.set_default_timeout(60_000)  # a busy machine is no reason to fail
    yield page
    page.close()


@pytest.fixture
def heard(tab: Page) -> Heard:
    return Heard(tab)


@pytest.fixture(scope="module")
def team(folder: Path) -> Path:
    """The page of a team: 18 cells of 30 runs, the first one red."""
    return keep(folder, "team", render(make_team()))


def keep(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.html"
    path.write_text(text, encoding="utf-8")
    return path


def shown_rows(tab: Page) -> list[str]:
    """Names of the cells in the table, in order."""
    found: list[str] = tab.evaluate(
        "[...document.querySelectorAll('#table tbody tr[id^=c]:not([hidden]) .opener')]"
        ".map(one => one.textContent.replace(/\\s+/g, ' ').trim())"
    )
    return found


def text_of(tab: Page, selector: str) -> str:
    found: str = tab.evaluate(f"document.querySelector({selector!r}).textContent.replace(/\\s+/g, ' ').trim()")
    return found


def count_of(tab: Page, selector: str) -> int:
    found: int = tab.evaluate(f"document.querySelectorAll({selector!r}).length")
    return found


def fill_in(tab: Page, field: str, value: str) -> None:
    """As a user does: the field has the focus, and the form hears of it."""
    tab.evaluate(
        f"(field => {{ field.focus(); field.value = {value!r}; "
        f"field.dispatchEvent(new Event('input', {{bubbles: true}})) }})(document.forms.filter.elements[{field!r}])"
    )
    settle(tab)


def press(tab: Page, *names: str) -> None:
    for name in names:
        tab.keyboard.press(name)
        settle(tab)


def show_as(tab: Page, *, window: ViewportSize = WINDOW, **media: Any) -> None:
    """A window's size, and what Playwright's ``emulate_media`` takes."""
    tab.set_viewport_size(window)
    tab.emulate_media(**media)
    settle(tab)


# --- how it looks


STATES: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "narrow": {"window": NARROW},
    "print": {"media": "print"},
}


@pytest.mark.parametrize("state", STATES)
def test_the_page_opens_without_a_complaint_and_asks_for_nothing(
    tab: Page, heard: Heard, team: Path, folder: Path, state: str
) -> None:
    show_as(tab, **STATES[state])
    open_file(tab, team)
    wait_until(tab, "document.querySelectorAll('.plot svg').length === 3")
    tab.screenshot(path=folder / f"team-{state}.png", full_page=True)
    assert (folder / f"team-{state}.png").stat().st_size > 100_000
    assert heard.complaints() == []
    assert heard.requests == [team.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), "it overflows"


@pytest.mark.parametrize(
    ("name", "runs", "headline"),
    [("empty", 0, "Nothing measured yet"), ("one", 1, "1 cell measured, none judged")],
)
def test_little_to_show(tab: Page, heard: Heard, folder: Path, name: str, runs: int, headline: str) -> None:
    measured = follow_cell(CELL, Fate(runs=runs, saved=-1)) if runs else []
    open_file(tab, keep(folder, name, render(measured)))
    assert text_of(tab, "h1") == headline
    if runs:
        click(tab, ".opener")
        wait_until(tab, "document.querySelector('.plot svg .points path')")
    tab.screenshot(path=folder / f"{name}.png", full_page=True)
    assert heard.complaints() == []


def test_cells_without_a_measurement_are_rows_like_the_others(tab: Page, heard: Heard, folder: Path) -> None:
    gaps = [
        Unmeasured(node_id=f"suites/chat.boobench.yaml::rack-7::{name}", outcome=outcome, reason=reason)
        for name, outcome, reason in (
            ("lost[pp64-c1]", "failed", f"worker 'gw0' crashed {'and said so ' * 20}"),
            ("asleep[pp64-c1]", "skipped", "not on this host"),
        )
    ]
    page = keep(folder, "gaps", render(make_team(runs=12), unmeasured=gaps))
    show_as(tab, window=NARROW)
    open_file(tab, page)
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), "it overflows"
    show_as(tab)
    open_file(tab, page, "#state=skipped")
    assert text_of(tab, "output") == "1 of 20 cells"
    assert shown_rows(tab) == ["asleep[pp64-c1] rack-7 · chat.boobench.yaml"]
    assert tab.evaluate("document.querySelector('#lanes .note').checkVisibility()"), "it has no curve"
    click(tab, "tr:not([hidden]) .opener")
    assert text_of(tab, ".detail-row:not([hidden]) .said") == "not on this host"
    assert "suites/chat.boobench.yaml::rack-7::asleep[pp64-c1]" in text_of(tab, ".detail-row:not([hidden]) .facts")
    tab.screenshot(path=folder / "gaps.png", full_page=True)
    click(tab, "#filter button[type=reset]")
    wait_until(tab, "document.querySelector('output').textContent === '20 cells'")
    assert not tab.evaluate("document.querySelector('#lanes .note').checkVisibility()")
    click(tab, "th[data-sort='decode_tok_s'] .sorter")
    assert [row.split("[")[0] for row in shown_rows(tab)].index("lost") >= 17, "cells without a number come last"
    edges = tab.evaluate(
        "['.reason', 'td.course'].map(one => document.querySelector(`#table ${one}`).getBoundingClientRect().right)"
    )
    assert edges[0] == edges[1], "a reason ends where the columns do"
    assert heard.complaints() == []


def test_500_cells_are_there_at_once(tab: Page, heard: Heard, folder: Path) -> None:
    open_file(tab, keep(folder, "large", render_large(runs=8)))
    assert text_of(tab, "output") == "500 cells"
    assert count_of(tab, ".spark") == 500
    fill_in(tab, "text", "gemma pp512")
    assert text_of(tab, "output") == "50 of 500 cells"
    tab.screenshot(path=folder / "large-filtered.png")
    assert heard.complaints() == []


def test_runs_of_one_day_are_told_apart_by_the_hour(tab: Page, folder: Path) -> None:
    started = 1_795_500_000.0
    runs = [
        make_measurement(CELL, number, started_at=started + 3600 * number, run=make_run(CELL, 0, started_at=started))
        for number in range(3)
    ]
    open_file(tab, keep(folder, "one-day", render(runs)))
    click(tab, ".opener")
    wait_until(tab, "document.querySelector('.plot svg .points path')")
    assert text_of(tab, ".plot svg").count("2026-11-24") == 0
    assert "06:00" in text_of(tab, ".plot svg")


BRIGHTNESS = """
(() => {
  const parse = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const backOf = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const back = parse(getComputedStyle(at).backgroundColor);
      if (back.length && back[3] !== 0) return back;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest("script, style, noscript, option")) continue;
    if (!node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const ink = parse(node.closest("svg") ? style.fill : style.color);
    const [dark, bright] = [light(ink), light(backOf(node))].sort((a, b) => a - b);
    const ratio = (bright + 0.05) / (dark + 0.05);
    seen += 1;
    if (ratio < 4.5) poor.push([walker.currentNode.data, ratio.toFixed(2), style.color]);
  }
  return [seen, poor];
})()
"""
"""All shown texts, and those whose contrast is less than WCAG 2.2 AA asks for (1.4.3: 4.5 to 1)."""


@pytest.mark.parametrize("state", STATES)
def test_every_text_stands_out(tab: Page, team: Path, state: str) -> None:
    show_as(tab, **STATES[state])
    open_file(tab, team)
    tab.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    wait_until(tab, "document.querySelectorAll('.numbers table').length")
    assert count_of(tab, "th:empty") == 0, "a column that a screen reader cannot name"
    seen, poor = tab.evaluate(BRIGHTNESS)
    assert seen > 500
    assert poor == []


def test_numbers_that_are_unfolded_scroll_by_themselves(tab: Page, team: Path) -> None:
    open_file(tab, team)
    tab.evaluate("document.querySelectorAll('.numbers').forEach(fold => fold.open = true)")
    wait_until(tab, "document.querySelectorAll('.numbers table').length >= 9")
    wide, room = tab.evaluate(
        "(box => [box.scrollWidth, box.clientWidth])(document.querySelector('[aria-label=\"Table of the cells\"]'))"
    )
    assert wide == room, "the table of all cells became wider than the page"


def test_dark_is_dark_and_print_is_light(tab: Page, team: Path) -> None:
    backs = []
    for state in ({}, {"color_scheme": "dark"}, {"color_scheme": "dark", "media": "print"}):
        show_as(tab, **state)
        open_file(tab, team)
        backs.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert backs == ["rgb(244, 246, 248)", "rgb(17, 21, 26)", "rgb(255, 255, 255)"]


def test_it_prints(tab: Page, team: Path, folder: Path) -> None:
    open_file(tab, team)
    wait_until(tab, "document.querySelectorAll('.plot svg').length === 3")
    assert count_of(tab, "#lanes .strip svg") == 0, "nobody has been there yet"
    tab.pdf(path=folder / "team.pdf", prefer_css_page_size=True)
    assert count_of(tab, "#lanes .strip svg") == 4
    pdf = (folder / "team.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
    show_as(tab, media="print")
    hidden = tab.evaluate(
        "['nav', '#filter', '.skip', '.tools', '.choice', '#tip'].filter(one => "
        "document.querySelector(one).checkVisibility())"
    )
    assert hidden == []
    assert tab.evaluate("document.querySelector('.plot svg').checkVisibility()")


def test_without_script_the_numbers_are_there(browser: Browser, team: Path, folder: Path) -> None:
    tab = browser.new_page(viewport=WINDOW, java_script_enabled=False)
    tab.goto(team.as_uri())
    tree = list_nodes(tab)
    names = [node["name"] for node in tree]
    assert "The charts need JavaScript; the numbers are all here." in names
    assert any("16.3 % below baseline main" in name for name in names)
    assert [node["name"] for node in tree if node["role"] == "button" and not node.get("disabled")] == []
    assert "Hosts side by side" not in names, "what only the script can draw"
    tab.screenshot(path=folder / "team-no-script.png", full_page=True)
    tab.close()


# --- strange text


def test_nothing_that_others_wrote_runs(tab: Page, heard: Heard, folder: Path) -> None:
    for number, text in enumerate(HOSTILE.values()):
        open_file(tab, keep(folder, f"hostile-{number}", html.render(hostile_history(text), 0.0)))
        tab.evaluate("document.querySelectorAll('.opener[aria-expanded=false]').forEach(one => one.click())")
        tab.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        wait_until(tab, "document.querySelectorAll('.numbers table').length")
        x, y = find_middle(tab, ".plot")
        tab.mouse.move(x, y)
        settle(tab)
        assert tab.evaluate("typeof hacked") == "undefined", text
        assert count_of(tab, "img") == 0, text
        assert count_of(tab, "script") == 2, text
        assert (
            tab.evaluate(
                "[...document.querySelectorAll('*')].filter(one => [...one.attributes]"
                ".some(attribute => attribute.name.startsWith('on'))).length"
            )
            == 0
        ), text
        assert heard.complaints() == [], text
        assert len(heard.requests) == number + 1, text


def test_names_are_shown_as_they_are(tab: Page, folder: Path) -> None:
    cell = make_cell(host="<b>bold</b>", model="a&amp;b", id="x")
    open_file(tab, keep(folder, "named", render([make_measurement(cell)])))
    assert shown_rows(tab) == ["a&amp;b[x] <b>bold</b> · smoke"]
    assert tab.evaluate("[...document.forms.filter.elements.host.options].map(one => one.value)") == ["", "<b>bold</b>"]


def test_the_policy_blocks_whatever_is_not_ours(tab: Page, team: Path) -> None:
    open_file(tab, team)
    tab.evaluate("""() => {
        window.blocked = [];
        addEventListener("securitypolicyviolation", event => blocked.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.hacked = 1";
        const style = document.createElement("style");
        style.textContent = "body { display: none }";
        const image = document.createElement("img");
        image.src = "http://127.0.0.1:9/x.png";
        document.body.append(script, style, image);
        image.setAttribute("style", "width: 7px");
        fetch("http://127.0.0.1:9/").catch(() => 0);
    }""")
    wait_until(tab, "blocked.length >= 5")
    assert set(tab.evaluate("blocked")) == {
        "script-src-elem",
        "style-src-elem",
        "style-src-attr",
        "img-src",
        "connect-src",
    }
    assert tab.evaluate("typeof hacked") == "undefined"
    assert tab.evaluate("document.body.checkVisibility()")


# --- finding a cell


def test_the_filter_says_how_many_are_left(tab: Page, team: Path, folder: Path) -> None:
    open_file(tab, team)
    assert text_of(tab, "output") == "18 cells"
    assert tab.evaluate("document.querySelector('output').getAttribute('aria-live')") == "polite"
    fill_in(tab, "host", "tower")
    assert text_of(tab, "output") == "6 of 18 cells"
    assert {row.split()[1] for row in shown_rows(tab)} == {"tower"}
    fill_in(tab, "text", "PP512 c16")
    assert shown_rows(tab) == ["qwen3-8b[pp512-tg128-c16] tower · chat-throughput"]
    assert tab.evaluate("location.hash") == "#text=PP512+c16&host=tower"
    tab.screenshot(path=folder / "team-filtered.png")
    fill_in(tab, "text", "no such cell")
    assert shown_rows(tab) == []
    assert tab.evaluate("document.getElementById('nothing').checkVisibility()")
    click(tab, "#filter button[type=reset]")
    wait_until(tab, "document.querySelector('output').textContent === '18 cells'")
    assert tab.evaluate("location.hash") == ""


@pytest.mark.parametrize(
    ("field", "value", "left"),
    [("state", "regression", 2), ("model", "qwen3-8b", 18), ("suite", "chat-throughput", 18), ("text", "no answer", 1)],
)
def test_every_field_filters(tab: Page, team: Path, field: str, value: str, left: int) -> None:
    open_file(tab, team)
    fill_in(tab, field, value)
    assert len(shown_rows(tab)) == left


def test_a_tile_filters_by_its_verdict_and_back(tab: Page, team: Path) -> None:
    open_file(tab, team)
    click(tab, ".tile[data-state='0']")
    assert text_of(tab, "output") == "2 of 18 cells"
    assert tab.evaluate("document.querySelector('.tile').getAttribute('aria-pressed')") == "true"
    assert tab.evaluate("document.forms.filter.elements.state.value") == "regression"
    click(tab, ".tile[data-state='0']")
    assert text_of(tab, "output") == "18 cells"
    assert tab.evaluate("document.querySelector('.tile').getAttribute('aria-pressed')") == "false"


def test_the_address_remembers_the_filter(tab: Page, team: Path) -> None:
    open_file(tab, team, "#host=tower&state=pass")
    assert text_of(tab, "output") == "6 of 18 cells"
    assert tab.evaluate("document.forms.filter.elements.host.value") == "tower"
    tab.evaluate("location.hash = '#host=rack-2'")
    wait_until(tab, "document.forms.filter.elements.host.value === 'rack-2'")
    assert text_of(tab, "output") == "6 of 18 cells"
    assert tab.evaluate("document.forms.filter.elements.state.value") == ""


def test_a_finding_leads_to_its_cell_even_where_the_filter_hides_it(tab: Page, team: Path) -> None:
    open_file(tab, team)
    fill_in(tab, "host", "tower")
    click(tab, ".finding a[href='#c1']")
    wait_until(tab, "document.activeElement === document.querySelector('#c1 .opener')")
    assert text_of(tab, "output") == "18 cells"
    assert tab.evaluate("document.getElementById('d1').checkVisibility()")


def test_the_filter_reaches_the_comparisons_too(tab: Page, team: Path) -> None:
    open_file(tab, team)
    heads = "[...document.querySelectorAll('#hosts thead th')].map(one => one.textContent)"
    assert tab.evaluate(heads) == ["cell", "rack-1", "rack-2", "tower"]
    fill_in(tab, "text", "pp64")
    assert count_of(tab, "#hosts tbody tr") == 3
    assert count_of(tab, "#lanes .card:not([hidden])") == 1
    fill_in(tab, "text", "no such cell")
    assert text_of(tab, "#hosts .note") == "No cell is like that."
    assert count_of(tab, "#lanes .card:not([hidden])") == 0


def test_the_table_sorts_by_any_column(tab: Page, team: Path) -> None:
    open_file(tab, team)
    values = (
        "[...document.querySelectorAll('#table tbody tr[id^=c]')].map(row => "
        "parseFloat(row.querySelectorAll('td.n')[0].textContent))"
    )
    column = "th[data-sort=decode_tok_s]"
    click(tab, f"{column} .sorter")
    rising = tab.evaluate(values)
    assert math.isnan(rising[-1]), "what has no number comes last"
    assert rising[:-1] == sorted(rising[:-1])
    click(tab, f"{column} .sorter")
    falling = tab.evaluate(values)
    assert math.isnan(falling[-1])
    assert falling[:-1] == sorted(rising[:-1], reverse=True)
    assert tab.evaluate(f"document.querySelector({column!r}).getAttribute('aria-sort')") == "descending"
    assert count_of(tab, "th[aria-sort]") == 1
    click(tab, "th[data-sort=name] .sorter")
    assert shown_rows(tab) == sorted(shown_rows(tab), key=lambda row: row.split()[0])
    click(tab, "th[data-sort=state] .sorter")
    assert tab.evaluate("[...document.querySelectorAll('#table tbody tr[id^=c]')].map(row => row.id)") == [
        f"c{place}" for place in range(18)
    ]
    assert tab.evaluate("document.getElementById('c0').nextElementSibling.id") == "d0", "a cell takes its charts along"


# --- a cell from near


def open_first(tab: Page, team: Path) -> None:
    open_file(tab, team)
    wait_until(tab, "document.querySelector('#d0 .plot svg')")
    tab.evaluate("document.querySelector('#d0 .plot').scrollIntoView({block: 'center', behavior: 'instant'})")
    settle(tab)


def test_red_cells_are_open_and_any_cell_opens_by_keyboard(tab: Page, team: Path) -> None:
    open_file(tab, team)
    assert tab.evaluate("[...document.querySelectorAll('[aria-expanded=true]')].map(one => one.closest('tr').id)") == [
        "c0",
        "c1",
        "c2",
    ]
    tab.evaluate("document.querySelector('#c9 .opener').focus()")
    press(tab, "Enter")
    wait_until(tab, "document.querySelector('#d9 .plot svg')")
    assert tab.evaluate("document.querySelector('#c9 .opener').getAttribute('aria-controls')") == "d9"
    press(tab, "Enter")
    assert not tab.evaluate("document.getElementById('d9').checkVisibility()")
    press(tab, "Enter")
    assert tab.evaluate("document.getElementById('d9').checkVisibility()")


def test_the_course_shows_baseline_limit_builds_commits_and_changes(tab: Page, team: Path) -> None:
    open_first(tab, team)
    counts = {
        name: count_of(tab, f"#d0 .history .plot {name}")
        for name in (
            ".points g",
            ".level",
            ".limit",
            ".zone",
            ".builds path",
            ".commit",
            ".changes path",
            ".saved",
            ".bad",
        )
    }
    assert counts == {
        ".points g": 30,
        ".level": 1,
        ".limit": 1,
        ".zone": 1,
        ".builds path": 2,
        ".commit": 29,
        ".changes path": 1,
        ".saved": 1,
        ".bad": 4,
    }
    assert tab.evaluate("[...document.querySelectorAll('#d0 .history .builds text')].map(one => one.textContent)") == [
        "b11000",
        "b11137",
        "b11274",
    ]
    assert text_of(tab, "#d0 .changes text").startswith("−1")
    assert tab.evaluate("[...document.querySelectorAll('#d0 .history .legend li')].map(one => one.textContent)") == [
        "median of a run",
        "its p10 to p90",
        "baseline",
        "limit, red beyond it",
        "change of the course",
        "new engine build",
        "new commit",
        "saved as baseline",
    ]
    wait_until(tab, "document.querySelector('#d2 .plot svg')")
    assert count_of(tab, "#d2 .history .points .bad.hollow") == 1, "what could not be measured has a sign"


def test_another_metric_is_chosen_by_radio_button(tab: Page, team: Path) -> None:
    open_first(tab, team)
    assert text_of(tab, "#d0 figcaption strong") == "decode"
    click(tab, "#d0 .choice input[value=ttft_ms] + span")
    assert text_of(tab, "#d0 figcaption strong") == "TTFT"
    wait_until(tab, "document.querySelector('#d0 .plot svg')")
    assert count_of(tab, "#d0 .history .plot .limit") == 0, "it is not judged"


def test_hovering_tells_the_numbers(tab: Page, team: Path, folder: Path) -> None:
    open_first(tab, team)
    assert not tab.evaluate("document.getElementById('tip').checkVisibility()")
    x, y = find_middle(tab, "#d0 .points g:last-child path")
    tab.mouse.move(x, y)
    settle(tab)
    told = text_of(tab, "#tip")
    assert told.startswith("2026-11-01 04:00 UTCdecode41.83 tok/sp10 to p90")
    for words in ("baseline50 tok/s (−16.3 %)", "red beyond45 tok/s", "verdictregression", "engineb11274", "commit0"):
        assert words in told
    tab.screenshot(path=folder / "team-hover.png")
    tab.mouse.move(2, 2)
    settle(tab)
    assert not tab.evaluate("document.getElementById('tip').checkVisibility()")


def seen(tab: Page) -> str:
    return text_of(tab, "#d0 .seen")


def test_a_drag_zooms_and_a_double_click_goes_back(tab: Page, team: Path, folder: Path) -> None:
    open_first(tab, team)
    assert seen(tab) == "30 runs"
    (left, y), (right, _) = (find_middle(tab, f"#d0 .points g:nth-child({number})") for number in (10, 20))
    tab.mouse.move(left, y)
    tab.mouse.down()
    tab.mouse.move((left + right) / 2, y)
    settle(tab)
    assert tab.evaluate("document.querySelector('#d0 .brush').getAttribute('visibility')") == "visible"
    tab.mouse.move(right, y)
    tab.mouse.up()
    settle(tab)
    assert seen(tab) == "runs 10 to 20 of 30"
    assert count_of(tab, "#d0 .points g") == 11
    tab.screenshot(path=folder / "team-zoomed.png")
    tab.evaluate("document.querySelector('#d0 .plot').dispatchEvent(new MouseEvent('dblclick'))")
    assert seen(tab) == "30 runs"
    tab.mouse.down()
    tab.mouse.up()
    settle(tab)
    assert seen(tab) == "30 runs", "a click is no drag"


def test_buttons_zoom(tab: Page, team: Path) -> None:
    open_first(tab, team)
    click(tab, "#d0 .tools button:nth-child(1)")
    assert seen(tab) == "runs 16 to 30 of 30"
    click(tab, "#d0 .tools button:nth-child(2)")
    assert seen(tab) == "30 runs"
    for _ in range(6):
        click(tab, "#d0 .tools button:nth-child(1)")
    assert seen(tab) == "runs 28 to 30 of 30", "three at least"
    click(tab, "#d0 .tools button:nth-child(3)")
    assert seen(tab) == "30 runs"


def test_the_keyboard_goes_from_run_to_run_and_zooms(tab: Page, team: Path) -> None:
    open_first(tab, team)
    tab.evaluate("document.querySelector('#d0 .plot').focus({preventScroll: true})")
    value = "document.querySelector('#d0 .plot').getAttribute('aria-valuetext')"
    press(tab, "ArrowLeft")
    assert tab.evaluate(value).startswith("2026-10-31 04:00: decode ")
    assert tab.evaluate("document.getElementById('tip').checkVisibility()")
    press(tab, "Home")
    assert tab.evaluate(value).startswith("2026-10-03 04:00: decode ")
    press(tab, "+", "+")
    assert seen(tab) == "runs 1 to 8 of 30"
    press(tab, "End")
    assert seen(tab) == "runs 23 to 30 of 30", "the view follows"
    press(tab, "-")
    assert seen(tab) == "runs 15 to 30 of 30"
    press(tab, "x")
    assert seen(tab) == "runs 15 to 30 of 30"
    press(tab, "Escape")
    assert seen(tab) == "30 runs"
    assert not tab.evaluate("document.getElementById('tip').checkVisibility()")


def test_behind_each_chart_there_is_a_table(tab: Page, team: Path) -> None:
    open_first(tab, team)
    tab.evaluate("document.querySelectorAll('#d0 details').forEach(fold => fold.open = true)")
    wait_until(tab, "document.querySelectorAll('#d0 .numbers table').length === 5")
    rows = tab.evaluate(
        "[...document.querySelectorAll('#d0 .history .numbers tr')].map(row => "
        "[...row.children].map(one => one.textContent))"
    )
    assert len(rows) == 31
    assert rows[0] == [
        "measured, UTC",
        "decode tok/s",
        "p10",
        "p90",
        "baseline",
        "verdict",
        "engine",
        "commit",
        "session",
        "note",
    ]
    assert rows[1][0] == "2026-11-01 04:00"
    assert rows[1][4:7] == ["50", "regression", "b11274"]
    assert rows[30][9] == "saved as baseline main"
    charts = count_of(tab, "#d0 figure")
    assert charts == count_of(tab, "#d0 figure details.numbers") == 5
    split = tab.evaluate(
        "[...document.querySelectorAll('#d0 .near figure:last-child .numbers tr')].map(row => "
        "[...row.children].map(one => one.textContent))"
    )
    assert split[0] == ["measurement", "connect ms", "queue ms", "prompt ms", "rest ms", "TTFT ms"]
    assert [row[0] for row in split[1:]] == ["newest", "baseline"]


def test_numbers_are_short_and_changes_signed(tab: Page, folder: Path) -> None:
    medians = (50.0, 0.0012345, 12345.6)
    measured = [
        make_measurement(CELL, number, aggregates={"decode_tok_s": make_aggregate(median, spread=0.0)})
        for number, median in enumerate(medians)
    ]
    judged = judge_as("regression", now=12345.6, baseline=50000.0, allowed=0.1)
    open_file(tab, keep(folder, "numbers", render([*measured[:2], replace(measured[2], verdicts=(judged,))])))
    wait_until(tab, "document.querySelector('#d0 .plot svg')")
    tab.evaluate("document.querySelector('#d0 .history details').open = true")
    wait_until(tab, "document.querySelector('#d0 .history table')")
    column = "[...document.querySelectorAll('#d0 .history tbody tr')].map(row => row.children[1].textContent)"
    assert tab.evaluate(column) == ["12350", "0.001234", "50"]
    tab.evaluate("document.querySelector('#d0 .plot').focus()")
    press(tab, "ArrowLeft", "ArrowRight")
    assert "12350 tok/s" in text_of(tab, "#tip")
    assert "baseline50000 tok/s (−75.3 %)red beyond45000 tok/s" in text_of(tab, "#tip")


# --- hosts and lanes


def test_hosts_stand_side_by_side_in_any_metric(tab: Page, team: Path) -> None:
    open_file(tab, team)
    first = "[...document.querySelectorAll('#hosts tbody tr')][0].textContent"
    assert "best" in tab.evaluate(first)
    before = tab.evaluate(first)
    tab.evaluate(
        "(select => { select.value = 'ttft_ms'; select.dispatchEvent(new Event('change')) })"
        "(document.querySelector('#hosts select'))"
    )
    assert tab.evaluate(first) != before
    best = tab.evaluate(
        "[...document.querySelectorAll('#hosts tbody tr')].map(row => "
        "[...row.children].findIndex(one => one.textContent.includes('best')))"
    )
    assert set(best) == {3}, "the tower is the fastest, and of a time the least is the best"


def test_lanes_are_curves_with_a_line_for_each_host(tab: Page, team: Path, folder: Path) -> None:
    open_file(tab, team)
    tab.evaluate("document.getElementById('lanes').scrollIntoView({behavior: 'instant'})")
    wait_until(tab, "document.querySelectorAll('#lanes .strip svg').length === 4")
    tab.screenshot(path=folder / "team-lanes.png")
    assert count_of(tab, "#lanes .card:first-child .strip:first-of-type .curve") >= 3
    assert tab.evaluate(
        "[...document.querySelectorAll('#lanes .card:first-child .legend li')].map(one => one.textContent)"
    ) == ["rack-1", "rack-2", "tower"]
    titles = tab.evaluate(
        "[...document.querySelectorAll('#lanes .card:first-child circle title')].map(one => one.textContent)"
    )
    assert any(title.startswith("tower, 16 lanes: ") for title in titles)


# --- for those who don't see it


def test_landmarks_headings_and_names(tab: Page, team: Path) -> None:
    open_file(tab, team)
    wait_until(tab, "document.querySelectorAll('.plot svg').length === 3")
    tree = list_nodes(tab)
    roles = [node["role"] for node in tree]
    for role in ("banner", "navigation", "main", "search", "contentinfo", "status", "table"):
        assert role in roles, role
    assert [node["name"] for node in tree if node["role"] == "region"] == [
        "Findings",
        "Cells",
        "Hosts side by side",
        "Concurrency",
    ]
    levels = [node["level"] for node in tree if node["role"] == "heading"]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    wanted = {"button", "link", "textbox", "searchbox", "combobox", "radio", "slider", "table", "image"}
    nameless = [node for node in tree if node["role"] in wanted and not node["name"].strip()]
    assert nameless == []
    (slider, *_) = [node for node in tree if node["role"] == "slider"]
    assert slider["name"] == "decode of qwen3-8b[pp64-tg128-c1] on rack-1, run by run"
    assert (slider["value"], slider["valuemax"]) == (30, 30)
    assert "verdict regression" in tab.evaluate("document.querySelector('.plot').getAttribute('aria-valuetext')")


def test_the_focus_is_seen_wherever_it_goes(tab: Page, team: Path) -> None:
    open_file(tab, team)
    places = set()
    for _ in range(45):
        press(tab, "Tab")
        place, outline = tab.evaluate(
            "(at => [at.tagName + '.' + at.className, at.matches('.choice input') "
            "? getComputedStyle(at.nextElementSibling).outlineWidth : getComputedStyle(at).outlineWidth])"
            "(document.activeElement)"
        )
        places.add(place)
        assert outline == "3px", place
    assert {"A.skip", "DIV.plot", "BUTTON.opener", "BUTTON.sorter", "INPUT.", "SELECT."} <= places


def test_the_skip_link_leads_past_the_findings(tab: Page, team: Path) -> None:
    open_file(tab, team)
    press(tab, "Tab")
    assert text_of(tab, ":focus") == "Skip to the cells"
    press(tab, "Enter")
    wait_until(tab, "location.hash === '#cells'")
    assert tab.evaluate("document.activeElement.id") == "cells"
