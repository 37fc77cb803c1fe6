"""Door 3: an exchange for use elsewhere: as curl, as Python, as a suite, as a link. Keys are named, never shown."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import yaml

from pytest_boobench.hosts.inventory import Host
from pytest_boobench.servers.clients import Call


def write_curl(host: Host, url: str, call: Call) -> str:
    """A command for a shell; the key is in the variable that the hosts file names."""
    key = f' -H "Authorization: Bearer ${host.key_variable}"' if host.key_variable else ""
    body = shlex.quote(json.dumps(call.body, ensure_ascii=False))
    return f"curl -N {shlex.quote(url + call.path)} -H 'Content-Type: application/json'{key} -d {body}"


def write_python(host: Host, url: str, call: Call) -> str:
    """A program with httpx."""
    key = f', headers={{"Authorization": "Bearer " + os.environ[{host.key_variable!r}]}}' if host.key_variable else ""
    return "\n".join(
        [
            *(["import os", ""] if host.key_variable else []),
            "import httpx",
            "",
            f"body = {dict(call.body)!r}",
            f'with httpx.stream("POST", {url + call.path!r}, json=body{key}, timeout=None) as answer:',
            "    for line in answer.iter_lines():",
            "        print(line)",
            "",
        ]
    )


def write_suite(host: str, model: str, prompt_tokens: int, max_tokens: int, sampling: Mapping[str, Any]) -> str:
    """A suite that measures prompts of this length with this sampling; the text itself is not kept."""
    plain = {
        "suite": "tried",
        "description": "Prompts as long as one that was tried on the page.",
        "hosts": [host],
        "models": [model],
        "kind": "chat",
        "length": "natural",
        "grid": {"prompt_tokens": [prompt_tokens], "output_tokens": [max_tokens], "concurrency": [1]},
        **({"sampling": dict(sampling)} if sampling else {}),
    }
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def fill_arena(template: str | None, a: str, b: str, prompt: str) -> str | None:
    """The link of the hosts file's template; None without one."""
    if template is None:
        return None
    words = {"{a}": a, "{b}": b, "{prompt}": prompt}
    for placeholder, word in words.items():
        template = template.replace(placeholder, quote(word, safe=""))
    return template
