"""Samples of the real embedded server, for the gate's benchmark: ``python -m tests.benchmarks.recordings NAME``.

Each round starts each server anew and takes one block of each cell, so that blocks of a cell lie about half a minute
apart. One JSON line for each block, in ``recordings/NAME.jsonl`` beside this file: what the gate needs to judge it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pytest_boobench.hosts.access import Hosts
from pytest_boobench.hosts.canary import listen
from pytest_boobench.hosts.embedded import EmbeddedSettings
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.measure.block import Measurer
from pytest_boobench.record import CellRecord
from pytest_boobench.suite.cell import Cell, Plan
from pytest_boobench.walk import run_cell
from tests.benchmarks.stage import hogs

FOLDER = Path(__file__).parent / "recordings"
LONG, LANES, SHORT = (256, 72, 1), (256, 72, 4), (32, 8, 1)
"""(prompt tokens, output tokens, lanes); the last one is too short to be judged well."""
HOSTS = {
    "tiny": (EmbeddedSettings(), (LONG, LANES, SHORT)),
    "larger": (EmbeddedSettings(layers=6, width=1024, feed_forward=4096), (LONG,)),
    "two-threads": (EmbeddedSettings(threads=2), (LONG, LANES, SHORT)),
}
KEYS = ("decode_tok_s", "prefill_tok_s", "ttft_ms", "e2e_ms")


def make_cell(host: str, shape: tuple[int, int, int]) -> Cell:
    """A chat cell that is measured with blocks of ten."""
    prompt, output, lanes = shape
    return Cell(
        suite="recordings",
        host=host,
        model="tiny-chat",
        kind="chat",
        prompt_tokens=prompt,
        output_tokens=output,
        concurrency=lanes,
        sampling={"temperature": 0.0, "seed": 42},
        request={},
        cache="cold",
        plan=Plan(warmup=2, warmup_max=2, samples=10),
        id=f"pp{prompt}-tg{output}-c{lanes}",
        line=1,
    )


def to_line(record: CellRecord, cell: Cell, round_number: int, canary: object) -> str:
    """One block as a line: host, cell, when, canary, and the samples' values in their order."""
    good = [sample for sample in record.samples if sample.phase == "measure" and sample.ok]
    return json.dumps(
        {
            "host": cell.host,
            "cell": cell.id,
            "round": round_number,
            "at": round(record.started_at, 1),
            "load": round(os.getloadavg()[0], 2),
            "canary": canary,
            "warmup_e2e_ms": [round(s.e2e_ms or 0, 2) for s in record.samples if s.phase == "warmup"],
            **{key: [round(getattr(sample, key) or 0, 3) for sample in good] for key in KEYS},
        }
    )


async def record_round(number: int) -> Sequence[str]:
    """One block of each cell, on servers started for it."""
    lines = []
    for name, (settings, shapes) in HOSTS.items():
        inventory = Inventory({name: Host(name=name, embedded=settings)}, display="recordings")
        async with Hosts(inventory, f"recordings-{number}") as hosts:
            for shape in shapes:
                cell = make_cell(name, shape)
                grant = await hosts.grant(name, "bench")
                canary = asdict(listen(takes_s=0.25))
                record = await run_cell(cell, grant, Measurer(run_uid=f"recordings-{number}"), node_id=cell.id)
                grant.release()
                if record.error:
                    raise RuntimeError(record.error)
                lines.append(to_line(record, cell, number, canary))
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Append rounds to a recording until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="as in calm-1")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--hogs", type=int, default=0, help="processes that burn a core each meanwhile")
    asked = parser.parse_args(arguments)
    FOLDER.mkdir(exist_ok=True)
    end = time.monotonic() + asked.minutes * 60
    number = 0
    with hogs(asked.hogs), (FOLDER / f"{asked.name}.jsonl").open("a", encoding="utf-8") as file:
        while time.monotonic() < end:
            file.writelines(f"{line}\n" for line in asyncio.run(record_round(number)))
            file.flush()
            number += 1
            print(f"round {number}, load {os.getloadavg()[0]:.2f}", flush=True)


if __name__ == "__main__":
    main()
