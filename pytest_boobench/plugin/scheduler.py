"""What each worker of pytest-xdist runs next: a batch belongs to one worker at a time, other batches run beside it.

This is xdist's `Scheduling` protocol in full. xdist's own schedulers re-run the item that killed a worker, or drop what
came after it; here a crash costs one item, and the rest of the batch goes to the replacement or to another worker.

An item may be put off: it then runs again at the end of its batch. Since a worker begins an item only when it knows
what comes after, the last item of a batch is sent twice in a row; the second time is real only if it was put off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, Protocol

import pytest

from pytest_boobench.plugin.ordering import Batch

_AHEAD = 2
"""Items that a worker has, or its shutdown: it begins one only when it knows what comes after. No more than that, so
that ``-x`` and ``--maxfail`` stop soon."""


class Worker(Protocol):
    """What is used of xdist's `WorkerController`."""

    gateway: Any
    """Its ``id`` is the worker's name."""

    @property
    def shutting_down(self) -> bool: ...

    def send_runtest_some(self, indices: Sequence[int]) -> None: ...

    def shutdown(self) -> None:
        """Tell it to end after what it has."""
        ...


class HostScheduler:
    """Hands out batches. ``plan`` makes them of the node ids, ``repeats`` says whether an item may be put off, and
    ``replaces_crashed`` whether xdist still replaces a worker that crashed."""

    def __init__(
        self,
        config: pytest.Config,
        *,
        workers: int,
        plan: Callable[[Sequence[str]], Sequence[Batch]],
        repeats: Callable[[str], bool],
        replaces_crashed: Callable[[], bool],
    ) -> None:
        self._config = config
        self._expected = workers
        self._plan = plan
        self._repeats = repeats
        self._replaces_crashed = replaces_crashed
        self._collection: list[str] = []
        """The node ids, as the first worker collected them."""
        self._collectors: list[str] = []
        self._differs = False
        self._sent: dict[Worker, list[int]] = {}
        """What each running worker was sent and has not completed, in order."""
        self._useful: set[Worker] = set()
        """Workers that have collected the same items as the first one."""
        self._batch_of: dict[int, int] = {}
        self._unsent: list[deque[int]] = []
        """Batch -> its items that no worker has, in order."""
        self._free: dict[int, None] = {}
        """Batches with unsent items that no worker has, the most urgent first."""
        self._held: dict[Worker, int] = {}
        self._put_off: set[int] = set()
        """Items that run, and are to run again."""
        self._closing: dict[Worker, int] = {}
        """Worker -> the item that it was sent a second time, to end what the first run keeps alive."""

    @property
    def nodes(self) -> list[Worker]:
        """The running workers."""
        return list(self._sent)

    @property
    def collection_is_completed(self) -> bool:
        """Whether all workers that the session began with have collected."""
        return len(self._collectors) >= self._expected

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left to send or to wait for."""
        return self.collection_is_completed and not self.has_pending

    @property
    def has_pending(self) -> bool:
        """Whether an item is unsent or not completed."""
        return bool(self._free) or any(self._sent.values()) or any(self._unsent[batch] for batch in self._held.values())

    def add_node(self, node: Worker) -> None:
        """A worker is up, and collects."""
        self._sent[node] = []

    def add_node_collection(self, node: Worker, collection: Sequence[str]) -> None:
        """A worker has collected. Other items than the first one's are a collection error, and end the session."""
        if not self._collectors:
            self._collection = list(collection)
        self._collectors.append(node.gateway.id)
        if self._collection == list(collection):
            self._useful.add(node)
        else:
            self._refuse(node, collection)

    def schedule(self) -> None:
        """Plan once all have collected, and whenever a worker comes in later, give it something to do."""
        if self._collection and not self._batch_of and not self._differs:
            batches = self._plan(self._collection)
            self._unsent = [deque(batch) for batch in batches]
            self._batch_of = {item: number for number, batch in enumerate(batches) for item in batch}
            self._free = dict.fromkeys(range(len(batches)))
        self._feed_all()

    def mark_test_complete(self, node: Worker, item_index: int, duration: float = 0) -> None:  # noqa: ARG002
        """An item has ended, with its teardown."""
        sent = self._sent[node]
        sent.remove(item_index)
        if item_index in self._put_off:
            self._put_off.discard(item_index)
            if self._closing.pop(node, None) is None:  # else what is there a second time is a real run
                self._unsent_of(node).append(item_index)
        elif item_index not in sent:
            self._closing.pop(node, None)
        self._feed_all()

    def put_off(self, item: str) -> None:
        """Say that an item which runs now is to run again."""
        self._put_off.add(self._collection.index(item))

    def mark_test_pending(self, item: str) -> None:
        """Run an item again: what plugins do with one that crashed."""
        if not self._collection:
            raise RuntimeError(f"{item}: nothing is collected yet, expected an item that ran")
        self._give_back([self._collection.index(item)])
        self._feed_all()

    def remove_pending_tests_from_node(self, node: Worker, indices: Sequence[int]) -> None:
        """Only for schedulers that steal; this one sends so little ahead that there is nothing to steal."""
        raise NotImplementedError

    def remove_node(self, node: Worker) -> str | None:
        """A worker is gone. The node id of the item that it died in, None when it had none. KeyError if unknown."""
        sent = self._sent.pop(node)
        held = self._held.pop(node, None)
        ran = sent[:1]
        if (closing := self._closing.pop(node, None)) is not None:
            ran = ran if sent.count(closing) > 1 else []  # a second run that only ends the first is no loss
            sent = [item for item in sent if item != closing]
        unrun = [item for item in sent if item not in ran]
        self._useful.discard(node)
        self._give_back(unrun, held)
        if not self._replaces_crashed():
            self._send_everything()
        self._feed_all()
        return self._collection[ran[0]] if ran else None

    def _at_work(self) -> list[Worker]:
        return [node for node in self._sent if node in self._useful and not node.shutting_down]

    def _feed_all(self) -> None:
        """Serve workers with nothing to do first, or another one takes a batch before it needs it."""
        at_work = self._at_work()
        for node in at_work:
            if not self._sent[node] and node not in self._held:
                self._take_batch(node)
        for node in at_work:
            self._feed(node)

    def _feed(self, node: Worker) -> None:
        items: list[int] = []
        while len(self._sent[node]) + len(items) < _AHEAD:
            if not self._unsent_of(node):
                last = [*self._sent[node], *items][-1:]
                if last and node not in self._closing and self._repeats(self._collection[last[0]]):
                    self._closing[node] = last[0]
                    items += last
                    break
                if not self._take_batch(node):
                    break
            items.append(self._unsent_of(node).popleft())
        self._send(node, items)
        # A free batch that can't be taken yet is one whose last item still runs elsewhere: wait for that.
        if len(self._sent[node]) < _AHEAD and not self._free:
            node.shutdown()

    def _unsent_of(self, node: Worker) -> deque[int]:
        batch = self._held.get(node)
        return self._unsent[batch] if batch is not None else deque()

    def _take_batch(self, node: Worker) -> bool:
        """Give the worker the first free batch of which no item runs elsewhere; whether there is one."""
        self._held.pop(node, None)
        elsewhere = {self._batch_of[item] for other, sent in self._sent.items() if other is not node for item in sent}
        batch = next((batch for batch in self._free if batch not in elsewhere), None)
        if batch is None:
            return False
        del self._free[batch]
        self._held[node] = batch
        return True

    def _send(self, node: Worker, items: Sequence[int]) -> None:
        if items:
            self._sent[node].extend(items)
            node.send_runtest_some(items)

    def _give_back(self, items: Sequence[int], held: int | None = None) -> None:
        """Put items that did not run at the front of their batches, and these batches before all others."""
        for item in reversed(items):
            self._unsent[self._batch_of[item]].appendleft(item)
        back = [*(() if held is None else (held,)), *(self._batch_of[item] for item in items)]
        free = [batch for batch in back if self._unsent[batch] and batch not in self._held.values()]
        self._free = dict.fromkeys([*free, *self._free])

    def _send_everything(self) -> None:
        """xdist is about to end all workers: what they are not sent now is never run."""
        for node in self._at_work():
            self._send_rest(node)
        for node, _ in zip(cycle(self._at_work()), list(self._free), strict=False):
            self._take_batch(node)
            self._send_rest(node)

    def _send_rest(self, node: Worker) -> None:
        unsent = self._unsent_of(node)
        self._send(node, list(unsent))
        unsent.clear()

    def _refuse(self, node: Worker, collection: Sequence[str]) -> None:
        """Fail the session, since indices would mean other items there; what no worker has yet does not run."""
        self._differs = True
        self._free.clear()
        for unsent in self._unsent:
            unsent.clear()
        expected, there = dict.fromkeys(self._collection), dict.fromkeys(collection)
        more = [f"only there {item}" for item in there if item not in expected]
        less = [f"missing there {item}" for item in expected if item not in there]
        found = "; ".join([*more[:3], *less[:3]]) or "another order"
        name = node.gateway.id
        why = (
            f"{name}: collected other tests than {self._collectors[0]}: {found}; "
            "expected the same ones in the same order"
        )
        report = pytest.CollectReport(nodeid=name, outcome="failed", longrepr=why, result=[])
        self._config.hook.pytest_collectreport(report=report)
