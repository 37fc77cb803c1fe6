"""Room 3: what a model says, beside how fast: its probabilities of a fixed text, for the cells that ask for them."""

from __future__ import annotations

from typing import Any

from pytest_boobench.errors import HostError
from pytest_boobench.servers.clients import Server
from pytest_boobench.suite.cell import Cell


async def read_quality(server: Server, cell: Cell) -> dict[str, Any]:
    """Return the facts of a record that ``quality`` asks for: the probabilities, or why there are none.

    A server that gives none is no error: it can still be measured.
    """
    if cell.plan.quality is None:
        return {}
    try:
        return {"logprobs": await server.next_tokens(cell.model, cell.plan.timeouts.request_s)}
    except HostError as error:
        return {"blanks": {cell.plan.quality: str(error)}}
