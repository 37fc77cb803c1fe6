"""Names that are HTML, Markdown, SQL and paths, through a whole session and into each of its outputs."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt

from pytest_boobench.cli import main
from tests.chromium import Heard, find_chromium, open_file, run_chromium
from tests.conftest import BenchFolder
from tests.fault_server import FaultServer, Peer
from tests.plugin.test_session import query
from tests.stand_in import _Model, _refuse_props

NAMES = (
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "'; drop table bench_cells; --",
    "[x](javascript:window.hacked=1)|**b**`c`",
    "../../../../tmp/boobench-hostile",
)
OUTPUTS = {
    "json": "--boobench-json=o.json",
    "html": "--boobench-report=o.html",
    "md": "--boobench-summary=o.md",
    "txt": "--boobench-metrics=o.txt",
    "xml": "--junitxml=o.xml",
    "jsonl": "--boobench-progress=o.jsonl",
}


async def _list(peer: Peer) -> None:
    await peer.answer("200 OK", {"object": "list", "data": [{"id": name, "object": "model"} for name in NAMES]})


def test_hostile_names_are_text_in_every_output(
    bench: BenchFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {name: _Model("good") for name in NAMES}
    grid = {"prompt_tokens": [40], "output_tokens": [4]}
    with FaultServer({**models, "models": _list, "props": _refuse_props}) as server:
        bench.write_hosts(rack={"server": "openai", "url": server.url, "shared": False})
        bench.write_suite(
            hosts=["rack"],
            models=list(NAMES),
            grid=grid,
            description=" ".join(NAMES),
            samples=1,
            warmup=0,
            gate={"e2e_ms": {"max_rise": "50%"}},  # four tokens may come in one piece, and then decode is blank
        )
        result = bench.run(*OUTPUTS.values(), "--boobench-save-baseline", "--boobench-baseline-file=base.yaml")
    result.assert_outcomes(passed=len(NAMES))
    assert {name for (name,) in query(bench, "select model from bench_cells")} == set(NAMES)
    texts = {end: (bench.path / f"o.{end}").read_text(encoding="utf-8") for end in OUTPUTS}
    assert {cell["model"]["name"] for cell in json.loads(texts["json"])["cells"]} == set(NAMES)
    assert {json.loads(line)["model"] for line in texts["jsonl"].splitlines()} == set(NAMES)
    assert len(list(ET.fromstring(texts["xml"]).iter("testcase"))) == len(NAMES)
    rendered = MarkdownIt("commonmark").enable("table").render(texts["md"])
    assert not re.search(r"<(script|img)|href=\"javascript", rendered)
    assert texts["txt"].endswith("# EOF\n")
    monkeypatch.chdir(bench.path)
    for words in (("history",), ("compare", "main", "-v"), ("export", "--format", "csv"), ("baseline", "show")):
        assert main(words) in (0, 1), capsys.readouterr()
    assert not list(bench.path.parent.rglob("*boobench-hostile*"))
    if (chromium := find_chromium()) is not None:
        with run_chromium(chromium) as browser:
            tab = browser.new_page()
            heard = Heard(tab)
            open_file(tab, bench.path / "o.html")
            assert tab.evaluate("window.hacked") is None
            shown = tab.evaluate("document.body.textContent")
            assert heard.complaints() == []
        assert all(name in shown for name in NAMES[:4])
