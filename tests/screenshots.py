"""The README's pictures, made anew: ``python -m tests.screenshots [FOLDER]``, by hand, about seven minutes.

Real sessions of the plugin on a stand-in for llama-server that keeps a pace of its own, so that a busy machine does not
change the pictures: a baseline is saved, a few builds pass, then one is slow after long prompts and the gate turns red.
The red session's terminal output becomes an SVG file and its HTML page a PNG file in FOLDER (default:
``.github/images``), and so does ``boobench page`` in the same folder, each in a light and a dark theme.
Needs Chromium on the PATH and the extra ``test``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.chromium import find_chromium, run_chromium
from tests.conftest import CHECKOUT, PATIENT
from tests.fault_server import Peer
from tests.kinds_stand_in import KindServer, Page, fixed
from tests.paced_server import Paced
from tests.page.serving import serve

COLUMNS = 120
COMMAND = "pytest --boobench suites/ --boobench-report=page.html"
SUITE = """\
suite: chat
hosts: [rack-1]
models: [my-model-q4_k_m]
grid: {prompt_tokens: [512, 4096], output_tokens: [64], concurrency: [1, 4]}
sampling: {temperature: 0.0, seed: 42}
samples: 12
"""
BUILDS = tuple(f"build-{number}" for number in range(1, 5))
"""The first one becomes the baseline."""
SLOW_BUILD, SLOW_SPEED, LONG_PROMPT = "build-5", 0.82, 4096
"""The slow one decodes more slowly after long prompts."""
PREFILL_TOK_S, DECODE_TOK_S = 5_000, 45
WINDOW = (1200, 1410)
SCALE = 0.9
MOST_KB = 200


@dataclass(frozen=True, slots=True)
class Look:
    """One theme: of the terminal, and of the browser."""

    name: str
    scheme: int
    """Chromium's number for ``prefers-color-scheme``: 0 dark, 1 light."""
    terminal: TerminalTheme


def make_theme(background: str, foreground: str, normal: str, bright: str) -> TerminalTheme:
    """From colours as RRGGBB; eight normal and eight bright ones with blanks between."""
    back, fore, *colours = (
        tuple(bytes.fromhex(colour)) for colour in (background, foreground, *normal.split(), *bright.split())
    )
    return TerminalTheme(back, fore, colours[:8], colours[8:])


LIGHT = make_theme(
    "ffffff",
    "1f2328",
    "1f2328 cf222e 116329 825000 0969da 8250df 1b7c83 6e7781",
    "57606a a40e26 1a7f37 9a6700 218bff a371f7 3192aa 8c959f",
)
DARK = make_theme(
    "0d1117",
    "e6edf3",
    "484f58 ff7b72 3fb950 d29922 58a6ff bc8cff 39c5cf b1bac4",
    "6e7681 ffa198 56d364 e3b341 79c0ff d2a8ff 56d4dd ffffff",
)
LOOKS = (Look("light", 1, LIGHT), Look("dark", 0, DARK))
TERMINAL = """\
<svg xmlns="http://www.w3.org/2000/svg" class="rich-terminal" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font: 20px "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre; }}
{styles}
</style>
<defs>{lines}</defs>
<rect width="100%" height="100%" fill="BACKGROUND"/>
<g transform="translate(12, 12)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


class PacedLlama(Paced):
    """A llama-server with a pace of its own; what it says of its times is what happened."""

    timings = True
    build = BUILDS[0]
    speed = 1.0
    """Of decode, as a ratio."""
    long_speed = 1.0
    """The same after long prompts."""

    def pages(self) -> Mapping[str, Page]:
        props = {
            "default_generation_settings": {"n_ctx": 16384},
            "total_slots": 4,
            "build_info": self.build,
            "model_path": "/models/my-model-q4_k_m.gguf",
        }
        models = fixed({"object": "list", "data": [{"id": "my-model-q4_k_m", "object": "model"}]})
        return {**super().pages(), "/v1/models": models, "/props": fixed(props), "/v1/chat/completions": self._chat}

    async def _chat(self, peer: Peer, fields: dict[str, Any]) -> None:
        prompt, tokens = self.tokens_of(fields["messages"][0]["content"]), fields["max_tokens"]
        if not fields.get("stream"):
            await peer.answer("200 OK", {"choices": [], "usage": self.count(prompt, 1)})
            return
        began = time.monotonic()
        await asyncio.sleep(prompt / PREFILL_TOK_S * random.gauss(1.0, 0.01))
        await peer.head()
        first = time.monotonic()
        speed = self.speed * (self.long_speed if prompt >= LONG_PROMPT else 1.0)
        gap_s = 1 / DECODE_TOK_S / speed * random.gauss(1.0, 0.01)
        for number in range(tokens):
            await asyncio.sleep(max(0.0, first + number * gap_s - time.monotonic()))
            await peer.event(self.chunk())
        times = {"prompt_ms": (first - began) * 1000, "predicted_ms": (time.monotonic() - first) * 1000}
        claim = {"cache_n": 0, "prompt_n": prompt, "predicted_n": tokens, **times}
        await peer.event({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        await peer.event({"id": "x", "choices": [], "usage": self.count(prompt, tokens), "timings": claim})
        await peer.event("[DONE]")
        await peer.chunk(b"")


def run_session(folder: Path, *args: str) -> tuple[int, str]:
    """Exit code and coloured output of ``pytest --boobench`` in the folder."""
    command = [sys.executable, "-m", "pytest", "--boobench", "suites/", "--color=yes", "--no-header"]
    command += ["-p", "patient", "-p", "no:benchmark", *args]
    paths = os.pathsep.join((str(CHECKOUT), str(folder)))
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "PYTHONPATH": paths}
    done = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest: exit code {done.returncode}: {done.stdout}{done.stderr}")
    return done.returncode, done.stdout


def run_scene(folder: Path) -> str:
    """The red session's output; its page is ``page.html`` in the folder."""
    llama = PacedLlama()
    with KindServer(llama) as server:
        hosts = {"rack-1": {"server": "llama-server", "url": server.url, "shared": False}}
        (folder / "boobench.hosts.yaml").write_text(json.dumps({"hosts": hosts}))
        (folder / "pytest.ini").write_text("[pytest]\nboobench_block_gap = 1s\n")
        (folder / "patient.py").write_text(PATIENT)
        (folder / "suites").mkdir()
        (folder / "suites" / "chat.boobench.yaml").write_text(SUITE)
        for build in BUILDS:
            print(build, flush=True)
            llama.build, llama.speed = build, random.gauss(1.0, 0.01)
            run_session(folder, *(["--boobench-save-baseline"] if build == BUILDS[0] else []))
        llama.build, llama.long_speed = SLOW_BUILD, SLOW_SPEED
        code, output = run_session(folder, "--boobench-report=page.html")
    if code != 1:
        raise RuntimeError(f"the session on the slow build was not red: {output}")
    return output


def draw_terminal(output: str, look: Look) -> str:
    """An SVG that shows the output as a terminal does."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="standard")
    console.print(Text.from_ansi(f"\x1b[1m$ {COMMAND}\x1b[0m\n{output.strip()}"), overflow="fold")
    picture = console.export_svg(theme=look.terminal, code_format=TERMINAL, unique_id=f"terminal-{look.name}")
    return picture.replace("BACKGROUND", look.terminal.background_color.hex)


def take_picture(page: Path, picture: Path, look: Look) -> None:
    """What Chromium shows of a page."""
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit("no Chromium on the PATH: apt-get install chromium")
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--force-color-profile=srgb",
        f"--force-device-scale-factor={SCALE}",
        f"--blink-settings=preferredColorScheme={look.scheme}",
        f"--window-size={WINDOW[0]},{WINDOW[1]}",
        "--virtual-time-budget=3000",
        f"--screenshot={picture}",
        page.resolve().as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    size_kb = picture.stat().st_size / 1024
    if size_kb > MOST_KB:
        raise RuntimeError(f"{picture}: {size_kb:.0f} KB, expected {MOST_KB} KB at most")
    print(f"{picture}: {size_kb:.0f} KB")


def take_local_page(folder: Path, pictures: Path) -> None:
    """What Chromium shows of ``boobench page`` in the sessions' folder: the room Run, with what is red.

    The folder's name is another one: it is a temporary folder's.
    """
    chromium, pictures = find_chromium(), pictures.resolve()
    assert chromium is not None
    with chdir(folder), serve(Path.cwd()) as page, run_chromium(chromium) as browser:
        shown = browser.new_page(viewport={"width": 1280, "height": 560})
        shown.goto(f"{page.address}/#token={page.doorkeeper.issue()}")
        shown.get_by_text("pytest --boobench", exact=False).first.wait_for(timeout=60_000)
        shown.evaluate("name => { document.querySelector('header .where').textContent = name }", "~/llm-hosts")
        for look in LOOKS:
            shown.emulate_media(color_scheme="light" if look.name == "light" else "dark")
            picture = pictures / f"local-page-{look.name}.png"
            shown.screenshot(path=picture)
            print(f"{picture}: {picture.stat().st_size / 1024:.0f} KB")


def main(arguments: Sequence[str] | None = None) -> None:
    """All six pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=CHECKOUT / ".github" / "images")
    parser.add_argument("--keep", type=Path, help="keep the sessions' folder here, and use it again where it is there")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="boobench-pictures-") as temporary:
        folder = asked.keep or Path(temporary)
        kept = folder / "terminal.txt"
        if not kept.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            kept.write_text(run_scene(folder), encoding="utf-8")
        output = kept.read_text(encoding="utf-8").replace(f"{folder.resolve()}/", "")
        asked.folder.mkdir(parents=True, exist_ok=True)
        for look in LOOKS:
            (asked.folder / f"terminal-{look.name}.svg").write_text(draw_terminal(output, look), encoding="utf-8")
            take_picture(folder / "page.html", asked.folder / f"page-{look.name}.png", look)
        take_local_page(folder, asked.folder)


if __name__ == "__main__":
    main()
