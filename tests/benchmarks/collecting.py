"""What collecting 10,000 cells costs beside 10,000 cases of plain pytest: ``python -m tests.benchmarks.collecting``.

Both are ``pytest --collect-only`` in a process of its own, in turn, on the same machine; medians of the wall time.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CELLS = 10_000
ROUNDS = 5

SUITE = """
suite: many
hosts: [embedded]
models: [tiny-chat]
grid:
  prompt_tokens: [{prompts}]
  output_tokens: [{outputs}]
  concurrency: [1, 2, 4, 8]
"""
PLAIN = """
import pytest

@pytest.mark.parametrize("concurrency", [1, 2, 4, 8])
@pytest.mark.parametrize("output_tokens", range(1, 51))
@pytest.mark.parametrize("prompt_tokens", range(1, 51))
def test_cell(prompt_tokens, output_tokens, concurrency):
    pass
"""
FUNCTIONS = "import pytest\n" + "".join(f"def test_{number}(): pass\n" for number in range(CELLS))


def collect(folder: Path, *args: str) -> float:
    """Seconds of wall time for one collection, which must have found every case."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    took_s = time.perf_counter() - began
    assert f"{CELLS} tests collected" in done.stdout, done.stdout[-2000:]
    return took_s


def main() -> None:
    """Print the medians and their ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        numbers = ", ".join(str(number) for number in range(1, 51))
        (folder / "many.boobench.yaml").write_text(SUITE.format(prompts=numbers, outputs=numbers))
        (folder / "test_plain.py").write_text(PLAIN)
        (folder / "test_functions.py").write_text(FUNCTIONS)
        ways = {
            "boobench": ("--boobench", "many.boobench.yaml"),
            "plain parametrize": ("test_plain.py",),
            "plain functions": ("test_functions.py",),
        }
        took_s: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, args in ways.items():
                took_s[way].append(collect(folder, *args))
    ours = statistics.median(took_s["boobench"])
    for way, seconds in took_s.items():
        median = statistics.median(seconds)
        spread = f"(min {min(seconds):.2f}, max {max(seconds):.2f})"
        print(f"{way:18} {median:6.2f} s  {spread}  ours / this {ours / median:.2f}")


if __name__ == "__main__":
    main()
