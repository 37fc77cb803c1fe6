"""Room 2: normalized URLs of hosts, the machines that they name, and keys that are never shown."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pytest_boobench.documents.validation import Expected, checked, flag_or_text, parsed, text
from pytest_boobench.documents.yaml_tree import Problems
from pytest_boobench.untrusted import learn_secret, learn_url

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
DEFAULT_PORTS = {"http": 80, "https": 443}
LOOPBACK = "127.0.0.1"


class Secret:
    """A text that only `reveal` shows. Messages, logs and reports replace it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        learn_secret(text)
        self._text = text

    def __repr__(self) -> str:
        return "Secret(…)"

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def fits_header(self) -> bool:
        """Whether it is valid in a request header; libraries print invalid ones in their errors."""
        return self._text.isascii() and self._text.isprintable()


def variable() -> Expected:
    """``${NAME}`` -> NAME. Anything else may be a key, so the message does not repeat it."""

    def parse(given: Any, _: Problems) -> str:
        match = _VARIABLE.fullmatch(given) if isinstance(given, str) else None
        if match is None:
            raise ValueError(
                "expected ${NAME}, the environment variable that holds the key; the key itself must not be here"
            )
        return match[1]

    return parsed("${NAME}", parse, {"type": "string", "pattern": f"^{_VARIABLE.pattern}$"})


def find_key(name: str | None, env: Mapping[str, str]) -> Secret | None:
    """Return the key in an environment variable, stripped; None if there is none."""
    key = env.get(name, "").strip() if name else ""
    return Secret(key) if key else None


def is_loopback(url: str) -> bool:
    """Whether a URL's server is on this machine."""
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def merge_loopback(url: str) -> str:
    """Return the URL with one name for loopback, so that equal servers have equal URLs."""
    if not is_loopback(url):
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=f"{LOOPBACK}:{parts.port}" if parts.port else LOOPBACK).geturl()


def name_address(url: str) -> str:
    """Return a URL's host as it is written: LOOPBACK for all names of loopback. Asks no name server."""
    return LOOPBACK if is_loopback(url) else (urlsplit(url).hostname or "")


def find_address(url: str) -> str:
    """Return the address of a URL's machine, without the port: LOOPBACK for all its names, the lowest of several.
    A name that cannot be resolved is returned itself."""
    return _resolve(urlsplit(url).hostname or "")


@cache
def _resolve(name: str) -> str:
    """Cached, so that a host stays the same machine while the process runs."""
    if name == "localhost" or name.endswith(".localhost"):
        return LOOPBACK
    try:
        found = [ipaddress.ip_address(name)]
    except ValueError:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            found = [ipaddress.ip_address(str(place[0])) for *_, place in answers]
        except (OSError, ValueError):  # ValueError: not a valid name
            return name
    plain = [getattr(address, "ipv4_mapped", None) or address for address in found]
    if any(address.is_loopback or address.is_unspecified for address in plain):
        return LOOPBACK
    return str(min(plain, key=lambda address: (address.version, int(address))))


@cache
def is_own(address: str) -> bool:
    """Whether an address is this machine's: the route to it starts at the address itself. Sends nothing."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 9))
            own: str = sock.getsockname()[0]
    except (OSError, ValueError):  # no route, or a name
        return False
    return own == address


def base_url() -> Expected:
    """A server's URL, normalized: lower case, no default port, no slash or /v1 at its end."""

    def check(url: str) -> str:
        _refuse_secrets(url)
        address = _normalise(url)
        if address is None:
            raise ValueError
        if "/v1/" in address:
            raise ValueError("leave out /v1 and what follows it; paths are added per request")
        return address

    return checked(
        text("a url such as http://10.0.0.5:9292"), check, {"type": "string", "pattern": "^https?://[^@?#$\\s]+$"}
    )


def arena_template() -> Expected:
    """An address of another page, with placeholders for two models and the prompt."""

    def check(template: str) -> str:
        unknown = [word for word in re.findall(r"\{([^{}]*)\}", template) if word not in ("a", "b", "prompt")]
        if not re.match(r"https?://[^{}\s]+", template) or unknown:
            raise ValueError
        return template

    words = "an address such as https://chat.example/?models={a},{b}&q={prompt}"
    return checked(text(words), check, {"type": "string", "pattern": "^https?://"})


def ca_file() -> Expected:
    """Whether to check certificates, or the path of a file of CAs."""
    return flag_or_text("true, false or a file of CA certificates", quoted=False)


def _refuse_secrets(url: str) -> None:
    """Raise ValueError for parts of a URL that may hold a secret, without repeating them."""
    if "@" in url:
        learn_url(url)
        learn_secret(url.partition("://")[2].rpartition("@")[0])
        raise ValueError("a url must not carry a user or a password; write api_key: ${NAME}")
    if "?" in url or "#" in url:
        raise ValueError("a url must not carry a query or a fragment; a key goes into api_key: ${NAME}")
    if "$" in url:
        raise ValueError("only api_key takes ${NAME}; write the url as it is")


def _normalise(url: str) -> str | None:
    """Return None if it is not the URL of a server."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or not url.isprintable() or " " in url:
        return None
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown_port = "" if port in (None, DEFAULT_PORTS[parts.scheme]) else f":{port}"
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{name}{shown_port}{path}"
