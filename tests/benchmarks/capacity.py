"""A real search on a server whose knee is known: ``python -m tests.benchmarks.capacity [DURATION]``.

One worker takes 50 ms for every request, so at most 20 per second can be answered. A request may take 150 ms. The bar:
the rate is found within 5 %, in ten probes at most.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from tests.kinds_stand_in import KindServer
from tests.one_worker import SERVICE_S, OneWorker


def main(duration: str = "30s") -> None:
    """Print what the command prints, and how far it is off."""
    with tempfile.TemporaryDirectory() as name, KindServer(OneWorker()) as server:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        hosts = {"hosts": {"worker": {"server": "openai", "url": server.url, "shared": False}}}
        (folder / "boobench.hosts.yaml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pytest_boobench.cli",
            "capacity",
            "worker",
            "--json",
            f"--duration={duration}",
        ]
        tokens = ["--prompt-tokens=64", "--output-tokens=2", "--slo=e2e_ms=150"]
        path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [*command, *tokens], cwd=folder, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, check=False
        )
    found = json.loads(done.stdout)
    for probe in found["probes"]:
        print(f"{probe['rate']:8.2f} per second: {probe['good']} of {probe['requests']} good")
    knee = found["knee"]
    if knee is None:
        print(found["error"])
        return
    off = knee["rate"] * SERVICE_S - 1
    print(
        f"knee {knee['rate']:.2f} [{knee['low']:.2f}, {knee['high']:.2f}], true {1 / SERVICE_S:.0f}: off by {off:+.1%}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
