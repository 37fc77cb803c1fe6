"""Room 2, far side: sampling fields that a server would silently drop are refused instead."""

from __future__ import annotations

from collections.abc import Collection

from pytest_boobench.errors import HostError
from pytest_boobench.suite.cell import Cell


def require_known(cell: Cell, known: Collection[str], server: str) -> None:
    """HostError where the suite names a sampling field that this kind of server ignores: its default would hold."""
    unknown = [name for name in cell.sampling if name not in known]
    if unknown:
        raise HostError(
            f"{cell.host}: sampling.{unknown[0]}: {server} ignores it, and its own default would hold; "
            f"leave it out, it knows {', '.join(sorted(known))}"
        )
