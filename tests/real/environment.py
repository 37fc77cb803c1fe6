"""Environments of their own for servers, installed from PyPI at first use."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

_FINISHED = "installed.txt"


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def command(self, name: str) -> Path:
        """A program that a package of it brought."""
        return self.folder / "bin" / name

    def version(self, package: str) -> str:
        """Of an installed package."""
        return self.ask(f"from importlib.metadata import version; print(version({package!r}))")

    def ask(self, program: str) -> str:
        """What a line of Python prints there."""
        return subprocess.run(
            [self.python, "-c", program], check=True, capture_output=True, text=True, cwd=self.folder
        ).stdout.strip()


def provide(root: Path, name: str, requirements: Sequence[str], unwanted: Sequence[str] = ()) -> Environment:
    """The environment, installed where it is not there yet; ``unwanted`` is taken out of it again."""
    made = Environment(root / name)
    wanted = "\n".join(requirements)
    finished = made.folder / _FINISHED
    if not finished.exists() or finished.read_text() != wanted:
        print(f"installing {', '.join(requirements)} in {made.folder}", file=sys.stderr, flush=True)
        if not made.python.exists():
            venv.create(made.folder, with_pip=True)
        install = [str(made.python), "-m", "pip", "install", "--quiet", *requirements]
        subprocess.run(install, check=True)
        if unwanted:
            subprocess.run([made.python, "-m", "pip", "uninstall", "--quiet", "--yes", *unwanted], check=True)
        finished.write_text(wanted)
    return made


def read_options(description: str, *more: Sequence[str]) -> argparse.Namespace:
    """The command line that all programs share; ``more`` are switches with their help."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = user_cache_path("pytest-boobench") / "real"
    parser.add_argument("--env", type=Path, default=default, help="folder for environments and models")
    parser.add_argument("--transcripts", type=Path, help="folder to write what the server answered into")
    parser.add_argument("--keep", type=Path, help="folder to work in, and to leave as it is; else a temporary one")
    for name, told in more:
        parser.add_argument(name, action="store_true", help=told)
    options = parser.parse_args()
    for folder in (options.env, options.transcripts, options.keep):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    return options


def write_json(path: Path, value: object) -> Path:
    """A file that YAML readers take too."""
    path.write_text(json.dumps(value, indent=1))
    return path
