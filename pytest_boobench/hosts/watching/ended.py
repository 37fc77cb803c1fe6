"""Room 2: foreign requests that came and went between two looks, told for a minute."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from datetime import UTC, datetime

from pytest_boobench.hosts.watching.stock import Slot
from pytest_boobench.units import count

_RECENT_S = 60.0


class Ended:
    """Compares each look with the one before it. Times are seconds since 1970 UTC."""

    def __init__(self) -> None:
        self._shown: dict[str, set[int | None]] = {}
        self._totals: dict[str, int] = {}
        self._lines: deque[tuple[float, str]] = deque()

    def see_slots(self, name: str, slots: Collection[Slot], now_s: float) -> None:
        """A slot shows its last request until the next one begins."""
        idle = {slot.task for slot in slots if not slot.processing}
        for task in sorted(task for task in idle - self._shown.get(name, idle) if task is not None):
            self._add(f"{name}, task {task}", now_s)
        self._shown[name] = idle

    def see_total(self, name: str, total: int, noun: str, now_s: float) -> None:
        """A counter that grows by ended requests, or by the tokens of such."""
        more = total - self._totals.get(name, total)
        if more > 0:
            self._add(f"{name}, {count(more, noun)}", now_s)
        self._totals[name] = total

    def tell(self, now_s: float) -> tuple[str, ...]:
        """One line each, the latest first; always the same line for the same request."""
        while self._lines and now_s - self._lines[0][0] > _RECENT_S:
            self._lines.popleft()
        return tuple(line for _, line in reversed(self._lines))

    def forget(self) -> None:
        """What ends from now on may be ours."""
        self._shown.clear()
        self._totals.clear()

    def _add(self, line: str, now_s: float) -> None:
        self._lines.append((now_s, f"{line} (ended {datetime.fromtimestamp(now_s, UTC):%H:%M:%S} UTC)"))
