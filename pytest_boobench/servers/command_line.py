"""Room 2, far side: the command line that started a server, as a record keeps it: one line, no port and no secret."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit

from pytest_boobench.untrusted import clean

MASK = "***"
PORT = "{port}"
LONGEST_COMMAND = 4000
"""Characters of a command line that are kept."""
_LONGEST_READ = 8_000
_NAMES = (
    "key|keys|apikey|apikeys|token|secret|secrets|password|passwd|passphrase|pwd|pass|credential|credentials|auth|"
    "authorization|hft"
)
_SECRET_AT_END = re.compile(rf"(?:.*[-_.])?(?:{_NAMES})", re.IGNORECASE)
_SECRET_ANYWHERE = re.compile(rf"(?:.*[-_.])?(?:{_NAMES})(?:[-_.].*)?", re.IGNORECASE)
_NO_SECRET = re.compile(r".*[-_.](?:file|path|dir)", re.IGNORECASE)
_SURE = frozenset({"--api-key", "--hf-token", "-hft"})
"""Flags whose value is the next word, whatever it looks like."""
_FLAG = re.compile(r"--?[A-Za-z][\w.-]*")
_NAMED = re.compile(r"(?P<name>--?[A-Za-z][\w.-]*|[A-Za-z_][\w.]*)=(?P<value>.*)", re.DOTALL)
_TYPED = re.compile(r"(?:bool|int|float|str):")
"""How values of llama.cpp's --override-kv begin."""
_NAME_INSIDE = re.compile(r"(?<![\w-])(?:(?P<flag>--?[A-Za-z][\w.-]{0,99})(?:=|\s+)|(?P<variable>[A-Za-z_]\w*)=)")
_VALUE_INSIDE = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s'\"]+")
_INSIDE = (
    (re.compile(r"(?<=://)(?:[^\s/?#'\"]{0,999}|[^\s/?#@:'\"]{0,999}:[^\s'\"]{0,999})@"), f"{MASK}@"),
    (re.compile(rf"([?&][\w.-]*(?:{_NAMES}|sig|signature)=)[^&#\s'\"]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\b((?:authorization|cookie)\s*:\s*)[^'\"]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\b(bearer|basic)\s+[^\s'\"]+", re.IGNORECASE), rf"\1 {MASK}"),
    (
        re.compile(
            rf"(\b(?:[\w.-]{{0,99}}[-_.])?(?:{_NAMES})\b['\"]?\s*:\s*['\"]?)(?!/)[^\s'\",}}]+",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b(hf_|sk-)[\w-]{8,}"), rf"\1{MASK}"),
)
"""Secrets within a word: in URLs, headers, JSON, and by what keys of well-known makers begin with."""
_PORT_INSIDE = re.compile(r"((?<![\w-])--?(?:[\w-]*[-_])?port(?:=|\s+))\d+")
_PLAIN = re.compile(r"[\w@%+=:,./{}*\[\]-]+")
_CONTINUED = re.compile(r"\\\r?\n")
_REMARK = re.compile(r"^\s*#.*$", re.MULTILINE)
_WINDOWS = re.compile(r"(?:^|[\s\"'=])[A-Za-z]:\\")


def write_command(command: str | Sequence[str], port: int | None = None) -> str | None:
    """A command line as a shell would write it; None where it is empty or cannot be read.

    ``command`` is its text or its words. What looks like a secret is ``***``; the server's port, as its flag or
    ``port`` tells it, is ``{port}``.
    """
    words = _split(command) if isinstance(command, str) else _take_first(command)
    masked = _mask_ports(_mask_secrets(words), port)
    written = " ".join(_quote(clean(word)) for word in masked)
    return (written if len(written) <= LONGEST_COMMAND else f"{written[: LONGEST_COMMAND - 1]}…") or None


def find_port(url: object) -> int | None:
    """The port that a server's URL names."""
    try:
        return urlsplit(url).port if isinstance(url, str) else None
    except ValueError:
        return None


def _split(text: str) -> list[str]:
    """The words, as a shell or llama-swap would read them: lines may be continued, and be remarks."""
    if len(text) > _LONGEST_READ:
        text = text[:_LONGEST_READ].rpartition(" ")[0]
    text = _REMARK.sub("", _CONTINUED.sub(" ", text))
    windows = _WINDOWS.search(text) is not None
    try:
        words = shlex.split(text, posix=not windows)
    except ValueError:  # a quote without its end: who knows where a secret ends
        return []
    return [word[1:-1] if word[:1] in "'\"" and word[:1] == word[-1:] else word for word in words] if windows else words


def _take_first(words: Sequence[str]) -> Sequence[str]:
    """As many words as are read."""
    lengths = itertools.accumulate(len(word) + 1 for word in words)
    return words[: sum(length <= _LONGEST_READ for length in lengths)]


def _mask_secrets(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    flag = ""
    for word in words:
        is_flag = _FLAG.fullmatch(word) is not None
        if flag in _SURE or (_is_secret(flag) and not is_flag):
            found.append(MASK)
            flag = ""
            continue
        flag = word if is_flag else ""
        found.append(_mask_word(word))
    return found


def _mask_word(word: str) -> str:
    named = _NAMED.fullmatch(word)
    inner = _NAMED.fullmatch(named["value"]) if named is not None else None  # as in --env=HF_TOKEN=…
    for each in filter(None, (named, inner)):
        if each["value"] and _is_secret(each["name"]) and not _TYPED.match(each["value"]):
            return f"{word[: len(word) - len(each['value'])]}{MASK}"
    if any(char.isspace() for char in word):  # a command within the command, as after sh -c
        word = _mask_inside(word)
    for pattern, mask in _INSIDE:
        word = pattern.sub(mask, word)
    return word


def _mask_inside(text: str) -> str:
    kept, at = [], 0
    while (named := _NAME_INSIDE.search(text, at)) is not None:
        kept.append(text[at : named.end()])
        at = named.end()
        if _is_secret(named["flag"] or named["variable"]) and (value := _VALUE_INSIDE.match(text, at)) is not None:
            kept.append(MASK)
            at = value.end()
    return "".join([*kept, text[at:]])


def _is_secret(name: str) -> bool:
    """Whether the value after a flag, or of a variable, may be a secret: of a flag its name's last part tells."""
    if _NO_SECRET.fullmatch(name):
        return False
    pattern = _SECRET_AT_END if name.startswith("-") else _SECRET_ANYWHERE
    return pattern.fullmatch(name.lstrip("-")) is not None


def _mask_ports(words: Sequence[str], port: int | None) -> list[str]:
    known = None if port is None else re.compile(rf"^{port}(?=:|$)|(?<=[:=]){port}(?!\d)")
    found: list[str] = []
    flag = ""
    for word in words:
        name, equals, value = word.rpartition("=")
        if word.isdecimal() and _is_port(flag):
            found.append(PORT)
        elif equals and value.isdecimal() and _is_port(name):
            found.append(f"{name}={PORT}")
        else:
            masked = _PORT_INSIDE.sub(rf"\1{PORT}", word)
            found.append(masked if known is None else known.sub(PORT, masked))
        flag = word if word.startswith("-") else ""
    return found


def _is_port(name: str) -> bool:
    return re.split(r"[-_]", name.lower())[-1] == "port"


def _quote(word: str) -> str:
    return word if _PLAIN.fullmatch(word) else shlex.quote(word)
