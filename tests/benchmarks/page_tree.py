"""The page's tree with 10,000 cells: ``python -m tests.benchmarks.page_tree [--cells 10000] [--loads 5]``.

A real server and the system's Chromium. Prints how long pytest collects, how long the answer is, when the first line of
the tree is painted (the server has collected before) at a browser's first visit and after a reload, and the longest
frame while all lines scroll by.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.chromium import WINDOW, find_chromium, run_chromium
from tests.page.serving import serve

FIRST_PAINT = """
window.firstPaintMs = new Promise((done) => {
  const look = () => requestAnimationFrame(document.querySelector(".line") ? done : look);
  look();
});
"""
SCROLL = """
() => new Promise((done) => {
  const box = document.querySelector(".tree");
  const frames = [];
  let before = null;
  const step = (now) => {
    if (before !== null) frames.push(now - before);
    before = now;
    box.scrollTop += 1000;
    if (frames.length < 300) requestAnimationFrame(step);
    else done(frames);
  };
  requestAnimationFrame(step);
})
"""


def write_project(folder: Path, cells: int) -> None:
    """One suite with a square grid."""
    side = round(cells**0.5)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "many.boobench.yaml").write_text(
        f"suite: many\nhosts: [embedded]\nmodels: [tiny-chat]\n"
        f"grid: {{prompt_tokens: {list(range(8, 8 + side))}, output_tokens: {list(range(4, 4 + side))}}}\n"
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--loads", type=int, default=5)
    asked = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit("no Chromium on the PATH: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, asked.cells)
        with serve(folder) as page, run_chromium(chromium) as browser:
            began = time.monotonic()
            size = len(page.client.get("/api/tree").content)
            print(f"collected in {time.monotonic() - began:.1f} s, {size / 1e6:.2f} MB", flush=True)
            began = time.monotonic()
            page.client.get("/api/tree")
            print(f"the answer again: {time.monotonic() - began:.3f} s", flush=True)
            visits, paints = [], []
            for _ in range(asked.loads):
                shown = browser.new_context(viewport=WINDOW).new_page()
                shown.add_init_script(FIRST_PAINT)
                shown.goto(f"{page.address}/#token={page.doorkeeper.issue()}")
                visits.append(shown.evaluate("window.firstPaintMs"))
                shown.reload()
                paints.append(shown.evaluate("window.firstPaintMs"))
            for what, times in (("a first visit", visits), ("a reload", paints)):
                print(f"{what}: first line after {statistics.median(times):.0f} ms, at most {max(times):.0f} ms")
            shown.get_by_role("tree").focus()
            shown.keyboard.press("*")
            frames = sorted(shown.evaluate(SCROLL))
            late = sum(frame > 50 for frame in frames)
            print(
                f"{len(frames)} frames of scrolling: median {statistics.median(frames):.0f} ms, "
                f"longest {frames[-1]:.0f} ms, {late} longer than 50 ms"
            )


if __name__ == "__main__":
    main()
