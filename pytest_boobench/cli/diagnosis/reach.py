"""Door 2: whether hosts can be reached: only those that somebody asks for are contacted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from pytest_boobench.cli.diagnosis.finding import Finding
from pytest_boobench.cli.survey import HostReport, survey
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.servers.patience import NONE, Patience
from pytest_boobench.units import count


def look_at_hosts(hosts: Sequence[Host], patience: Patience = NONE) -> Iterator[Finding]:
    """A finding for each host; they are asked at the same time, and nothing is loaded by it."""
    for report in asyncio.run(survey(hosts, patience)):
        yield _judge(report)


def _judge(report: HostReport) -> Finding:
    topic = f"host {report.name}"
    if not report.reachable:
        text = (report.error or "").removeprefix(f"{report.name}: ")
        return Finding("fail", topic, text, "is it running, and is its url right?")
    text = ", ".join(part for part in (report.kind, report.version, count(len(report.models), "model")) if part)
    if report.use == "busy":
        return Finding("warn", topic, f"{text}, busy", "wait for it with --boobench-wait 10m")
    if report.use == "unknown":
        remedy = "say shared: false in the hosts file if it is yours alone"
        return Finding("warn", topic, f"{text}, cannot tell whether others use it", remedy)
    return Finding("ok", topic, f"{text}, quiet")
