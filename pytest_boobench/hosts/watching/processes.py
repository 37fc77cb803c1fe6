"""Room 2: which llama-server processes stand behind an address: one, or for a router one for each loaded model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from pytest_boobench.hosts.watching.stock import CannotTell, LlamaProcess


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
        loaded = [entry for entry in entries if (entry.get("status") or {}).get("value") == "loaded"]
        return {
            model if model in (entry.get("aliases") or ()) else entry["id"]: LlamaProcess(self._control, entry["id"])
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
            response = await self._control.get(path)
            body = response.json()
        except httpx.HTTPError as error:
            raise CannotTell(f"{path}: no answer") from error
        except ValueError as error:
            raise CannotTell(f"{path}: the answer is not JSON") from error
        return body if isinstance(body, dict) else {}


def _entries(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    listed = body.get("data")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            yield entry
