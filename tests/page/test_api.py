"""The API as it is described: every route in the schema and in the manual, every answer as its class says."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest

from pytest_boobench.page.api_schema import ROUTES, schema
from pytest_boobench.page.app import list_routes, list_sampling
from pytest_boobench.page.bodies import read_body
from pytest_boobench.page.guard import ApiRefusal
from pytest_boobench.page.static_files import list_assets
from pytest_boobench.page.suite_tree import SuiteTree
from pytest_boobench.suite.spec import SAMPLING
from tests.conftest import CHECKOUT
from tests.page.conftest import write_suite
from tests.page.serving import ServedPage, make_desk


def test_every_route_is_in_the_schema_and_in_the_manual(page: ServedPage) -> None:
    routes = [(method, path) for method, path, _ in list_routes(page.server)]
    assert routes == [(method, path) for method, path, _, _ in ROUTES]
    table = (CHECKOUT / "pytest_boobench" / "manual" / "page.md").read_text(encoding="utf-8")
    named = {path.partition("?")[0] for path in re.findall(r"`(/api/[^`]+)`", table)}
    assert named == {path for _, path in routes}


@pytest.mark.parametrize(
    "path", [path for method, path, _, answer in ROUTES if method == "GET" and answer and "{" not in path]
)
def test_answers_are_as_the_schema_says(shared_page: ServedPage, path: str) -> None:
    whole = schema()
    told = whole["paths"][path]["get"]
    response = shared_page.client.get(path)
    kind = told["answer"] if response.status_code == 200 else told["error"]
    jsonschema.validate(response.json(), {**kind, "$defs": whole["$defs"]})


@pytest.fixture(scope="module")
def shared_page(tmp_path_factory: pytest.TempPathFactory) -> object:
    from tests.page.serving import serve

    folder = tmp_path_factory.mktemp("answers")
    (folder / "pytest.ini").write_text("[pytest]\n")
    with serve(folder) as served:
        yield served


def test_the_sampling_fields_are_those_of_a_suite() -> None:
    fields = {field.name: field for field in list_sampling().fields}
    assert list(fields) == list(SAMPLING)
    assert (fields["top_p"].type, fields["top_p"].minimum, fields["top_p"].maximum) == ("number", 0, 1)
    assert fields["seed"].type == "integer"


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[]", 422), (b"{}", 422), (b'{"how": "kill"}', 422)])
def test_a_wrong_body_is_refused(body: bytes, status: int) -> None:
    from pytest_boobench.page.bodies import StopBody

    with pytest.raises(ApiRefusal) as refused:
        read_body(StopBody, body)
    assert refused.value.status == status


def test_assets_are_only_files_of_two_folders() -> None:
    assert all(path.is_file() for path in list_assets().values())
    assert {"report/style.css", "report/history.js"} <= set(list_assets())
    assert "report/page.html" not in list_assets()


def test_the_index_asks_for_all_modules_at_once() -> None:
    """Otherwise a browser finds them one after the other, each by the one that imports it."""
    index = list_assets()["index.html"].read_text(encoding="utf-8")
    wanted = set(re.findall(r'<(?:link rel="modulepreload" href|script [^>]*src)="/assets/([^"]+)"', index))
    assert wanted == {name for name in list_assets() if name.endswith(".js")}


async def collect_twice(folder: Path) -> tuple[float, float, float]:
    tree = SuiteTree(make_desk(folder))
    first, second = await tree.collect(), await tree.collect()
    (folder / "broken.boobench.yaml").write_text("suite: broken\n")
    third = await tree.collect()
    assert third.errors is not None
    assert "broken.boobench.yaml" in third.errors
    assert [report.file for report in third.reports if report.problems] == ["broken.boobench.yaml"]
    return first.at, second.at, third.at


def test_a_tree_is_collected_again_when_a_file_changes(folder: Path) -> None:
    import asyncio

    first, second, third = asyncio.run(collect_twice(folder))
    assert first == second < third


def test_a_hosts_file_beside_the_suites_is_that_of_the_page(tmp_path: Path) -> None:
    suites = tmp_path / "suites"
    suites.mkdir()
    write_suite(suites, "smoke", samples=1)
    hosts = suites / "boobench.hosts.yaml"
    desk = make_desk(tmp_path)
    before = desk.stamp()
    hosts.write_text("hosts:\n  llama: {url: 'http://127.0.0.1:9'}\n")
    assert desk.stamp() != before  # so that the suites are collected again
    assert "llama" in desk.read_inventory().hosts


def test_a_browser_need_not_ask_again_for_files_that_are_named_by_their_contents(page: ServedPage) -> None:
    named = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page.client.get("/").text)
    assert named
    for address in named:
        kept = page.client.get(address)
        _, assets, _, *name = address.split("/")
        usual = page.client.get("/".join(["", assets, *name]))
        assert kept.content == usual.content
        assert "immutable" in kept.headers["cache-control"]
        assert usual.headers["cache-control"] == "no-cache"
    assert page.client.get("/assets/0123456789abcdef/app.js").status_code == 404
