"""Room 3: the two sides of a duet: the same cell on two hosts, or with two models of one host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from pytest_boobench.documents.yaml_tree import suggest
from pytest_boobench.errors import HostError
from pytest_boobench.hosts.access import Grant
from pytest_boobench.measure.block import Block, Found, Measurer, name_as_listed, prepare
from pytest_boobench.measure.talks import require_context
from pytest_boobench.record import Pairing
from pytest_boobench.suite.cell import Cell


@dataclass(frozen=True, slots=True)
class DuetSide:
    """One side: leave to use its host, and the cell with its host and model."""

    grant: Grant
    cell: Cell
    reference: bool


@dataclass(frozen=True, slots=True)
class Duet:
    """Both sides, and who measures them."""

    ours: DuetSide
    other: DuetSide
    session: Measurer
    names_model: bool = False
    """Whether the other side was named with its model."""

    @property
    def sides(self) -> tuple[DuetSide, DuetSide]:
        return self.ours, self.other

    @property
    def shared(self) -> bool:
        """Whether one server has both models."""
        return self.ours.grant is self.other.grant

    def as_listed(self) -> Self:
        """The same with the names that the servers themselves give to the models."""
        ours, other = (replace(side, cell=name_as_listed(side.cell, side.grant)) for side in self.sides)
        return replace(self, ours=ours, other=other)

    def block(self, side: DuetSide, number: int) -> Block:
        """A block of one side; both are sent the same requests.

        Conversations of a shared server are its exception: what one side said may be in the cache of the other.
        """
        cell = side.cell
        apart = "/reference" if self.shared and side.reference and cell.turns > 1 else ""
        return Block(cell, self.session, number, requests_of=f"{self.ours.cell.key}{apart}")

    async def prepare(self, side: DuetSide, grant: Grant, number: int, found: Found) -> None:
        """Have a side load its model; of the first block, record the facts of its server."""
        block = self.block(side, number)
        seen = Found(found.record) if side.reference else found
        await prepare(block, grant, seen)
        if number > 1:
            return
        if side.cell.turns > 1 and grant.server.can.exact_tokens:
            require_context(side.cell, seen.record.model)
        if side.reference:
            found.note(reference=seen.record.server)


async def find_pairing(duet: Duet) -> Pairing:
    """What the pairs can be where one server has both models: starts where it does not keep both loaded.

    HostError where one of the models is not there. A server that does not say what is loaded is believed to keep both.
    """
    server = duet.ours.grant.server
    ours, other = duet.ours.cell.model, duet.other.cell.model
    listed = await server.models()
    for model in (ours, other):
        if listed and model not in listed:
            raise HostError(f"{duet.ours.cell.host}: no model {model!r} there; {suggest(model, listed)}")
    for model in (ours, other):
        await server.load(model)
    ready = await server.ready_models()
    return "requests" if ready is None or {ours, other} <= set(ready) else "starts"
