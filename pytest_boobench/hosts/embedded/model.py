"""Room 2: the embedded model: its names, how heavy it is, where its file lies."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_cache_path

from pytest_boobench.hosts.embedded.gguf import write
from pytest_boobench.hosts.embedded.weights import CONTEXT_LIMIT_TOKENS, describe, lay_out_tensors

MODELS = ("tiny-chat", "tiny-embed")
"""The names that the one model is served under, for text and for embeddings."""

FORMAT = 1
"""Part of the file's name; one more whenever the same settings make another file."""

_LIMITS: Mapping[str, tuple[int, int, int]] = {  # least, most, step
    "layers": (1, 128, 1),
    "width": (256, 4096, 256),
    "feed_forward": (256, 16384, 256),
    "threads": (1, 64, 1),
    "slots": (1, 64, 1),
    "context_tokens": (256, CONTEXT_LIMIT_TOKENS, 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSettings:
    """How heavy the embedded host is: the model's shape, then the server's. ValueError where that cannot be.

    The defaults, measured on one core of an EPYC guest: a file of 14 MB, written and served in 0.2 s, 125 MB of
    memory, decode 310 tok/s and prefill 2300 tok/s after 256 tokens, both within 1 % from request to request. A token
    takes 3 ms, 0.1 of them for HTTP and sampling, so the model sets the pace; a request of 256 + 64 tokens takes 0.3 s,
    so ten samples of eight cells take half a minute. The layers are IQ3_S, 3.4 bits a weight, slow to unpack and small
    enough for a cache: the pace is set by arithmetic, not by the memory, whose speed changes with a guest's neighbours.
    """

    layers: int = 8
    width: int = 512
    feed_forward: int = 2048
    threads: int = 1
    slots: int = 8
    """Requests worked on at once; more wait in the server's queue."""
    context_tokens: int = 4096
    """Context of one slot, and the longest text for an embedding."""

    def __post_init__(self) -> None:
        problems = find_problems(asdict(self))
        if problems:
            raise ValueError("; ".join(f"{field}: {text}" for field, text in problems.items()))


def find_problems(values: Mapping[str, object]) -> dict[str, str]:
    """Field -> what is wrong with it and what would be right, for those of the settings' fields that are given."""
    texts = {field: _problem(values[field], *limits) for field, limits in _LIMITS.items() if field in values}
    return {field: text for field, text in texts.items() if text}


def _problem(value: object, least: int, most: int, step: int) -> str:
    if type(value) is int and least <= value <= most and value % step == 0:
        return ""
    kind = "a whole number" if step == 1 else f"a multiple of {step}"
    return f"expected {kind} from {least} to {most}, got {value!r}"


def provide_model(settings: EmbeddedSettings, cache: Path | None = None) -> Path:
    """The model's file for these settings, written at its first use. OSError where the cache cannot be written.

    ``cache`` is a folder, the user's own for this package by default. Sessions may write at the same time: each writes
    a file of its own and moves it into place whole.
    """
    folder = cache or user_cache_path("pytest-boobench")
    shape = settings.layers, settings.width, settings.feed_forward
    path = folder / f"tiny-l{shape[0]}-w{shape[1]}-f{shape[2]}-v{FORMAT}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=path.stem, delete=False) as file:
            write(file, describe(*shape), lay_out_tensors(*shape))
        Path(file.name).replace(path)
    return path
