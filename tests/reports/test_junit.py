"""JUnit files as a parser of somebody else reads them: both families, alone and with pytest-xdist, every outcome."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from junitparser import Error, Failure, JUnitXml, Properties, Skipped, TestCase, xunit2

from tests.conftest import BenchFolder
from tests.fault_server import closed_port
from tests.plugin.test_session import scale_baselines
from tests.stand_in import openai_server

FAMILIES = {"xunit1": JUnitXml, "xunit2": xunit2.JUnitXml}
WAYS = {"alone": (), "workers": ("-n", "2")}
ONE_CELL = {"prompt_tokens": [16], "output_tokens": [4]}


def write_every_outcome(bench: BenchFolder) -> None:
    """Suites whose cell passes, regresses, is an error, is not judged, is skipped by its mark."""
    bench.write_hosts(dead={"server": "llama-server", "url": f"http://127.0.0.1:{closed_port()}", "shared": False})
    bench.write_suite("slow", grid=ONE_CELL, gate={"decode_tok_s": "10%"}, sampling={"temperature": 0.5})
    bench.run("--boobench-save-baseline").assert_outcomes(passed=1)
    scale_baselines(bench, 20.0)
    bench.write_suite("new", grid=ONE_CELL)
    bench.write_suite("dead", grid=ONE_CELL, hosts=["dead"])
    one_token = {"prompt_tokens": [16], "output_tokens": [1]}
    bench.write_suite("odd", grid=one_token, gate={"itl_ms": {"max_rise": "10%"}})
    bench.write_suite("marked", grid=ONE_CELL, marks=[{"skip": {"reason": "not today"}}])


def run(bench: BenchFolder, way: tuple[str, ...], family: str) -> JUnitXml:
    ini = {"boobench_block_gap": "0s", "boobench_policy": "literal", "junit_family": family}
    args = [*way, "--junitxml=junit.xml", *(f"--override-ini={name}={value}" for name, value in ini.items())]
    result = bench.run_workers(*args) if way else bench.run(*args)
    result.assert_outcomes(passed=1, failed=1, errors=1, skipped=2)
    return FAMILIES[family].fromfile(str(bench.path / "junit.xml"))


def read_properties(case: TestCase) -> Mapping[str, str]:
    return {entry.name: entry.value for entry in case.child(Properties) or ()}


@pytest.mark.parametrize(("way", "family"), [("alone", "xunit1"), ("alone", "xunit2"), ("workers", "xunit1")])
def test_every_outcome(bench: BenchFolder, way: str, family: str) -> None:
    write_every_outcome(bench)
    (suite,) = run(bench, WAYS[way], family)
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (5, 1, 1, 2)
    cases = {case.classname.partition(".")[0]: case for case in suite}
    assert {name: (case.classname, case.name) for name, case in cases.items()} == {
        "slow": ("slow.boobench.yaml.llama", "tiny-chat[pp16-tg4-c1]"),
        "new": ("new.boobench.yaml.llama", "tiny-chat[pp16-tg4-c1]"),
        "dead": ("dead.boobench.yaml.dead", "tiny-chat[pp16-tg4-c1]"),
        "odd": ("odd.boobench.yaml.llama", "tiny-chat[pp16-tg1-c1]"),
        "marked": ("marked.boobench.yaml.llama", "tiny-chat[pp16-tg4-c1]"),
    }
    kinds = {name: [type(result) for result in case.result] for name, case in cases.items()}
    assert kinds == {"slow": [Failure], "new": [], "dead": [Error], "odd": [Skipped], "marked": [Skipped]}

    (failure,) = cases["slow"].result
    assert " % below baseline main (" in failure.message.splitlines()[0]
    assert "\nhost llama, engine " in failure.text
    (error,) = cases["dead"].result
    assert "dead: no answer from http://127.0.0.1:" in error.message
    assert "Traceback" not in error.text
    (skipped,) = cases["odd"].result
    assert "no sample gives this metric" in skipped.message
    assert cases["marked"].result[0].message == "not today"

    slow, new, dead, odd = (read_properties(cases[name]) for name in ("slow", "new", "dead", "odd"))
    assert slow["boobench.verdict.decode_tok_s"] == "regression"
    assert float(slow["boobench.change.decode_tok_s"]) < -0.1
    assert float(slow["boobench.decode_tok_s"]) < float(slow["boobench.baseline.decode_tok_s"])
    assert slow["boobench.sampling.temperature"] == "0.5"
    assert new["boobench.verdict.decode_tok_s"] == "no baseline"
    assert new["boobench.prompt_tokens"] == "16"
    assert dead["boobench.error"].startswith("dead: no answer from ")
    assert odd["boobench.verdict.itl_ms"] == "inconclusive"
    assert read_properties(cases["marked"]) == {}

    of_suite = {entry.name: entry.value for entry in suite.properties()}
    assert of_suite["boobench.workers"] == ("2" if WAYS[way] else "1")
    assert {f"boobench.{name}.llama.run" for name in ("slow", "new", "odd")} <= set(of_suite)

    element = cases["new"]._elem
    assert ("file" in element.attrib) == (family == "xunit1")
    if family == "xunit1":
        assert element.attrib["file"] == "new.boobench.yaml"


def test_hostile_texts_stay_xml(bench: BenchFolder) -> None:
    """What a server says may hold anything."""
    with openai_server() as server:
        bench.write_hosts(other={"server": "openai", "url": server.url, "shared": False})
        bench.write_suite(hosts=["other"], models=["broken"], grid=ONE_CELL)
        bench.pytester.makeconftest(
            """
            import pytest
            from pytest_boobench.errors import HostError

            def pytest_boobench_acquire_host_access():
                raise HostError("<b>\\x00\\x1b[31m]]>&amp;\\ud800")
            """
        )
        bench.run("--junitxml=junit.xml").assert_outcomes(errors=1)
    (suite,) = JUnitXml.fromfile(str(bench.path / "junit.xml"))
    (case,) = suite
    (error,) = case.result
    shown = "<b> ]]>&amp; "
    assert shown.rstrip() in error.message
    assert shown.rstrip() in error.text
    assert read_properties(case)["boobench.error"].rstrip() == shown.rstrip()
