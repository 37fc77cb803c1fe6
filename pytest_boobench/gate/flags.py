"""Room 6: two command lines of a server -> the flags that differ, each by its name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

PROGRAM = "program"
"""What stands before the first flag: the program, or what starts it."""
MODEL_FLAGS = frozenset({"-m", "--model"})
_FLAG = re.compile(r"--?[A-Za-z]")
_VARIABLE = re.compile(r"[A-Za-z_]\w*=")
_SHELL = re.compile(r"(?:^|/)(?:ba|da|z)?sh$")
_SAME_FLAGS = (
    "-m --model",
    "-c --ctx-size",
    "-np --parallel",
    "-ngl --gpu-layers --n-gpu-layers",
    "-ctk --cache-type-k",
    "-ctv --cache-type-v",
    "-ctkd --cache-type-k-draft",
    "-ctvd --cache-type-v-draft",
    "-fa --flash-attn",
    "-b --batch-size",
    "-ub --ubatch-size",
    "-t --threads",
    "-tb --threads-batch",
    "-sm --split-mode",
    "-ts --tensor-split",
    "-mg --main-gpu",
    "-dev --device",
    "-ot --override-tensor",
    "-cmoe --cpu-moe",
    "-ncmoe --n-cpu-moe",
    "-md --model-draft",
    "-cd --ctx-size-draft",
    "-ngld --gpu-layers-draft --n-gpu-layers-draft",
    "-hf -hfr --hf-repo",
    "-a --alias",
    "-cb --cont-batching",
    "-nkvo --no-kv-offload",
    "-kvu --kv-unified",
)
"""llama-server's names of one flag (common/arg.cpp of b11434), of those that change its speed."""
_FIRST_NAME = {name: names.split()[0] for names in _SAME_FLAGS for name in names.split()}


@dataclass(frozen=True, slots=True)
class FlagChange:
    """One flag that differs; a blank value is a flag that is not there, an empty one stands alone."""

    name: str
    was: str | None
    now: str | None

    def __str__(self) -> str:
        """As in ``-ctk q8_0, was f16`` or ``--mlock added``."""
        if self.was is None or self.now is None:
            value, word = (self.now, "added") if self.was is None else (self.was, "removed")
            return " ".join(filter(None, (self.name, value, word)))
        return f"{self.name} {self.now or 'without a value'}, was {self.was or 'without a value'}"


@dataclass(slots=True)
class _Flag:
    name: str
    """As this command line writes it."""
    words: list[str] = field(default_factory=list)

    @property
    def value(self) -> str:
        return " ".join(self.words)


def compare_commands(was: str, now: str) -> list[FlagChange]:
    """What differs, in the order of the newer command line; what was removed comes last.

    The order of flags does not count, nor which of llama-server's names a flag has. All words up to the next flag are
    its value.
    """
    before, after = _read_flags(was), _read_flags(now)
    changed = [
        FlagChange(flag.name, before[key].value if key in before else None, flag.value)
        for key, flag in after.items()
        if key not in before or before[key].value != flag.value
    ]
    return [*changed, *(FlagChange(flag.name, flag.value, None) for key, flag in before.items() if key not in after)]


def _read_flags(command: str) -> dict[str, _Flag]:
    """Its flags, variables and program by one name for each."""
    found: dict[str, _Flag] = {}
    for name, word in _pair_words(command):
        flag = found.setdefault(_FIRST_NAME.get(name, name), _Flag(name))
        if word is not None:
            flag.words.append(word)
    return found


def _pair_words(command: str) -> Iterator[tuple[str, str | None]]:
    """(name, a word of its value); without a word where the flag begins."""
    try:
        words = shlex.split(command)
    except ValueError:  # it was cut
        words = command.split()
    if len(words) > 2 and _SHELL.search(words[0]) and words[1] == "-c":
        yield from _pair_words(words[2])
        return
    name = PROGRAM
    for word in words:
        if _FLAG.match(word):
            name, equals, value = word.partition("=")
            yield name, value if equals else None
        elif name == PROGRAM and _VARIABLE.match(word):
            variable, _, value = word.partition("=")
            yield variable, value
        else:
            yield name, word
