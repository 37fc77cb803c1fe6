"""Room 0: data from outside. JSON of any shape and text of any content become plain values, or a named Fault.

Every text of a server passes `clean` before it enters a message, a record or a report: it may hold a key that we sent,
or control characters.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MAX_DEPTH = 64
"""Maximum nesting of an answer. Real ones have eight levels; Python's own limit is near 1,000."""
MAX_COUNT = 2**53
"""Larger JSON numbers are not exact."""
LONGEST = 300
"""The most characters of a server's text in a message."""
HIDDEN = "[secret]"
"""Replaces a secret."""
_SHOWN = 60
_LEAST = 4
"""The fewest characters of a secret to hide."""
_LEAST_PART = 8
"""The fewest characters of a secret's beginning or end to hide."""
_SEQUENCE = re.compile(r"\x1b(?:\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_]|\[[0-?]*[ -/]*[@-~])|\x9b[0-?]*[ -/]*[@-~]")
"""Escape sequences of terminals: titles and links (OSC), colours and cursors (CSI), and those of two characters."""
_PASSWORD = re.compile(r"://[^:@/?#]*:(.*)@", re.DOTALL)
_PASSWORD_IN_QUERY = re.compile(r"[?&](?:ssl)?password=([^&#]*)")

_LIKELY_KEY = re.compile(
    r"""
    (?<![\w-])(?:
        (?:sk|pk|rk)[-_] | hf_ | gsk_ | nvapi- | AIza | AKIA                    # model providers, Hugging Face, clouds
        | gh[oprsu]_ | github_pat_ | glpat- | npm_ | pypi- | xox[a-z]- | xapp-  # forges, registries, Slack
    )(?=[\w-]*\d)[\w-]{8,}
    | (?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]+)?                            # JSON Web Token, RFC 7519
    | (?<=\bBearer\ )[\w.~+/-]{8,}=*
    | (?<![A-Za-z0-9])
      (?!(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?![A-Za-z0-9]))         # an identifier or digest of ours
      (?=[A-Za-z]*\d)(?=\d*[A-Za-z])(?=(?:[A-Za-z]*\d){3})
      [A-Za-z0-9]{24,}(?![A-Za-z0-9])
    """,
    re.VERBOSE,
)
"""By the beginnings that services give their keys; or 24 letters and digits in a row, as no name has."""


class Fault(ValueError):  # noqa: N818  # the answer's, not ours
    """A wrong part of an answer. The text names the field, its value, and what was expected."""


# --- secrets and control characters


class _Secrets:
    """All known secrets, each in every form in which it may come back."""

    def __init__(self) -> None:
        self._long: tuple[str, ...] = ()
        """Longest first; their parts are hidden too."""
        self._short: tuple[str, ...] = ()
        self._sign: re.Pattern[str] | None = None
        """Matches every text that may hold a secret, so that other texts cost only this check."""

    @property
    def known(self) -> bool:
        """Whether there is anything to hide."""
        return self._sign is not None

    def learn(self, secret: str) -> None:
        if len(secret) < _LEAST or secret in self._long or secret in self._short:
            return
        forms = _list_forms(secret)
        if len(secret) < _LEAST_PART:
            self._short = tuple(sorted({*self._short, *forms}, key=len, reverse=True))
        else:
            self._long = tuple(sorted({*self._long, *forms}, key=len, reverse=True))
        parts = {part for form in self._long for part in (form[:_LEAST_PART], form[-_LEAST_PART:])}
        self._sign = re.compile("|".join(map(re.escape, sorted(parts | {*self._short}))))

    def hide(self, text: str, *, short: bool = True) -> str:
        """Return the text without secrets and their parts. Idempotent."""
        if self._sign is None or not self._sign.search(text):
            return text
        return HIDDEN.join(self._hide_in_piece(piece, short=short) for piece in text.split(HIDDEN))

    def _hide_in_piece(self, text: str, *, short: bool) -> str:
        text = _hide_heads(self.hide_whole(text), self._long, HIDDEN)
        turned = [form[::-1] for form in self._long]
        text = _hide_heads(text[::-1], turned, HIDDEN[::-1])[::-1]
        for form in self._short if short else ():
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", HIDDEN, text)
        return text

    def hide_whole(self, text: str) -> str:
        """Return the text without complete long secrets."""
        for form in self._long:
            text = text.replace(form, HIDDEN)
        return text


def _list_forms(secret: str) -> set[str]:
    """The secret as others may write it: quoted for URLs, JSON and HTML, and in base64."""
    quoted = {quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1], escape(secret)}
    quoted |= {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form) for form in quoted}
    encoded = _encode(secret.encode("utf-8", "replace")) if len(secret) >= _LEAST_PART else set()
    return {secret, *quoted, *encoded}


def _encode(raw: bytes) -> set[str]:
    """The base64 forms of bytes inside longer data: the characters that do not depend on the bytes around them."""
    found = set()
    for before, changed in ((0, 0), (1, 2), (2, 3)):
        text = base64.b64encode(bytes(before) + raw).decode().rstrip("=")[changed:]
        same = text[: (before + len(raw)) * 8 // 6 - changed]
        found |= {text, same, text.replace("+", "-").replace("/", "_"), same.replace("+", "-").replace("/", "_")}
    return {form for form in found if len(form) >= _LEAST_PART}


def _hide_heads(text: str, forms: Sequence[str], hidden: str) -> str:
    """The text without long beginnings of a form; if several forms match, the longest match is hidden."""
    for head in dict.fromkeys(form[:_LEAST_PART] for form in forms):
        alike = [form for form in forms if form.startswith(head)]
        kept, at = [], 0
        while (found := text.find(head, at)) >= 0:
            kept += [text[at:found], hidden]
            at = found + max(_count_same(form, text[found : found + len(form)]) for form in alike)
        text = "".join([*kept, text[at:]])
    return text


def _count_same(one: str, other: str) -> int:
    """The number of equal characters at the start of two texts."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


_SECRETS = _Secrets()


def learn_secret(secret: str) -> None:
    """Make `clean` hide this text: a key, a password, the value of a variable that a file names.

    With fewer than eight characters it is hidden only as a whole word, with fewer than four never: any text may
    contain it.
    """
    _SECRETS.learn(secret)


def learn_url(url: str) -> None:
    """Make `clean` hide the password in a URL.

    A password that is also elsewhere in the URL, as in ``postgres:postgres@``, is not hidden.
    """
    for found in (_PASSWORD.search(url), *_PASSWORD_IN_QUERY.finditer(url)):
        if found is not None and found[1] not in url[: found.start(1)] + url[found.end(1) :]:
            for secret in (found[1], unquote(found[1]), unquote_plus(found[1])):
                learn_secret(secret)


def learn_likely_keys(text: str) -> None:
    """Make `clean` hide what looks like a key in a text that somebody typed where no key belongs."""
    for found in _LIKELY_KEY.findall(text):
        learn_secret(found)


def is_likely_key(text: str) -> bool:
    """Whether all of a text looks like a key."""
    return _LIKELY_KEY.fullmatch(text) is not None


def hide_secrets(text: str) -> str:
    """Return the text with each known secret hidden, and otherwise unchanged."""
    return _SECRETS.hide(text)


def hide_in(value: Any) -> Any:
    """Return plain data with each secret of at least eight characters hidden in all texts.

    This is a second check before data leave the process, for texts that `clean` never saw. Names of fields may be our
    own, so only complete secrets are hidden in them.
    """
    if not _SECRETS.known:
        return value
    if isinstance(value, str):
        return _SECRETS.hide(value, short=False)
    if isinstance(value, Mapping):
        return {_hide_in_name(key): hide_in(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(hide_in, value))
    if isinstance(value, list):
        return list(map(hide_in, value))
    return value


def _hide_in_name(key: Any) -> Any:
    if not isinstance(key, str):
        return key
    return _SECRETS.hide_whole(key) if key.isidentifier() else _SECRETS.hide(key, short=False)


def clean(text: str, limit: int = LONGEST) -> str:
    """Return the text on one line, without secrets and invisible characters, cut to ``limit``."""
    flat = _SECRETS.hide(" ".join(_make_printable(text).split()))
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def clean_lines(text: str) -> str:
    """Do the same, but keep the lines and cut nothing."""
    return _SECRETS.hide("\n".join(_make_printable(line) for line in text.split("\n")))


def _make_printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in _SEQUENCE.sub("", text))


def clean_json(value: Any) -> Any:
    """Return JSON that every store accepts: texts and names cleaned, None for numbers that JSON cannot hold exactly."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    if isinstance(value, int | float) and not abs(value) <= MAX_COUNT:  # this form also catches NaN
        return None
    return value


# --- JSON


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises Fault if it is not JSON, or is nested too deep."""
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if decoded.count("[") + decoded.count("{") > MAX_DEPTH and find_depth(decoded) > MAX_DEPTH:
        raise Fault(f"is nested more than {MAX_DEPTH} levels deep")
    try:
        return json.loads(decoded)
    except (ValueError, RecursionError):
        raise Fault(f"is not JSON: {show(decoded)}") from None


def find_depth(text: str) -> int:
    """Return the deepest nesting of a JSON text; ignores brackets in its strings."""
    depth = deepest = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text, re.DOTALL):
        first = token[0][0]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "]}":
            depth -= 1
    return deepest


def show(value: object) -> str:
    """Return a value from outside as one short line for a message."""
    if isinstance(value, str):
        return clean(value, _SHOWN) or "an empty text"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int) and abs(value) > 10**_SHOWN:
        return "a number of more than 60 digits"
    return clean(str(value), _SHOWN)


# --- fields of an object: None or empty if the field is missing or null; raise Fault if it is something else


def get_object(source: Mapping[str, Any], key: str, where: str = "") -> Mapping[str, Any]:
    """Return the object under a key."""
    value = source.get(key)
    _require(value is None or isinstance(value, Mapping), where, key, value, "an object")
    return value or {}


def get_list(source: Mapping[str, Any], key: str, where: str = "") -> Sequence[Any]:
    """Return the list under a key."""
    value = source.get(key)
    _require(value is None or isinstance(value, list), where, key, value, "a list")
    return value or ()


def get_text(source: Mapping[str, Any], key: str, where: str = "") -> str | None:
    """Return the text under a key, not cleaned."""
    value = source.get(key)
    _require(value is None or isinstance(value, str), where, key, value, "a text")
    return value


def get_count(source: Mapping[str, Any], key: str, where: str = "") -> int | None:
    """Return the whole number under a key, from 0; 8.0 is 8."""
    value = source.get(key)
    found = to_count(value)
    _require(value is None or (found is not None and found >= 0), where, key, value, "a whole number from 0")
    return found


def get_number(source: Mapping[str, Any], key: str, where: str = "", *, above: float | None = None) -> float | None:
    """Return the finite number under a key; it must be larger than ``above``, if given."""
    value = source.get(key)
    found = to_number(value)
    right = found is not None and (above is None or found > above)
    _require(value is None or right, where, key, value, "a number" if above is None else f"a number above {above:g}")
    return found


def _require(right: bool, where: str, key: str, value: object, expected: str) -> None:
    if not right:
        raise Fault(f"{where}{'.' if where else ''}{key} is {show(value)}, expected {expected}")


# --- single values that may be missing: None or empty if they are something else


def to_object(value: object) -> Mapping[str, Any]:
    """Return the object, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def to_objects(value: object) -> list[Mapping[str, Any]]:
    """Return the objects in a list; ignores other items."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def to_texts(value: object) -> list[str]:
    """Return the texts in a list, cleaned; ignores other items."""
    return [clean(item) for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []


def to_text(value: object) -> str | None:
    """Return the text, cleaned; None if there is none."""
    return (clean(value) or None) if isinstance(value, str) else None


def to_count(value: object) -> int | None:
    """Return a whole number of any sign that JSON holds exactly, else None."""
    found = to_number(value)
    return int(found) if found is not None and found.is_integer() and abs(found) <= MAX_COUNT else None


def to_natural(value: object) -> int | None:
    """Return a whole number from 1, such as a size, else None."""
    found = to_count(value)
    return found if found is not None and found > 0 else None


def to_number(value: object) -> float | None:
    """Return a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and abs(value) > MAX_COUNT:
        return None
    return float(value) if math.isfinite(value) else None
