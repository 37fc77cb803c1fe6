"""Room 2: which llama-server processes stand behind an address: one, or for a router one for each loaded model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from pytest_boobench.hosts.watching.stock import CannotTell, LlamaProcess, explain_failure
from pytest_boobench.servers.control import list_names
from pytest_boobench.untrusted import Fault, clean, parse_json, to_object, to_objects


class Processes:
    """Finds them, by the names of their models."""

    def __init__(self, control: httpx.AsyncClient) -> None:
        self._control = control
        self._router: bool | None = None

    async def find(self, model: str) -> Mapping[str, LlamaProcess]:
        """Model -> its process, loaded ones only; ``model`` is what we call the one that we use.

        CannotTell where the host does not answer.
        """
        if not await self.behind_router():
            return {model: LlamaProcess(self._control)}
        entries = _entries(await self._ask("/models"))
        loaded = [entry for entry in entries if to_object(entry.get("status")).get("value") == "loaded"]
        return {
            model if model in list_names(entry) else clean(entry["id"]): LlamaProcess(self._control, entry["id"])
            for entry in loaded
        }

    async def behind_router(self) -> bool:
        """Whether a router stands there; CannotTell where the host does not answer."""
        if self._router is None:
            self._router = (await self._ask("/props")).get("role") == "router"
        return self._router

    async def asleep(self) -> bool:
        """Whether the server has put its model away until someone asks for more than this. A router never has."""
        return (await self._ask("/props")).get("is_sleeping") is True

    async def _ask(self, path: str) -> Mapping[str, Any]:
        try:
            return to_object(parse_json((await self._control.get(path)).content))
        except httpx.TransportError as error:
            raise CannotTell(f"{path}: {explain_failure(error)}") from error
        except Fault as fault:
            raise CannotTell(f"{path}: the answer {fault}") from fault


def _entries(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in to_objects(body.get("data")) if isinstance(entry.get("id"), str))
