"""Door 3: exchanges that the page began: with one model, or the same on several sides; and votes on these."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from pytest_boobench.errors import BoobenchError
from pytest_boobench.hosts.access import Grant
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.metrics import Sample
from pytest_boobench.page.bodies import CompareBody, PromptBody, RepeatBody, TryBody
from pytest_boobench.page.guard import ApiRefusal
from pytest_boobench.page.hand_over import fill_arena, write_curl, write_python, write_suite
from pytest_boobench.page.past_types import NamedSide, VoteAnswer
from pytest_boobench.page.repeats import Repetition, Round
from pytest_boobench.page.talk import Talked, Talker, TalkRequest, UsedByRun, converse
from pytest_boobench.page.talk_types import ExportAnswer, ExportedSide, describe_sample
from pytest_boobench.page.tallies import count_votes, make_tally, name_side
from pytest_boobench.record import Vote, VoteWord

_MOST_KEPT = 50


@dataclass(eq=False)
class TalkSide:
    """One side of an exchange, in the order that is shown."""

    request: TalkRequest
    text: str = ""
    reasoning: str = ""
    sample: Sample | None = None


@dataclass(eq=False)
class TalkExchange:
    """An exchange with one model, or the same one with several; kept in memory only."""

    id: str
    sides: list[TalkSide]
    alone: bool
    blind: bool
    together: bool
    wait: bool
    seed: int | None
    prompt_sha256: str
    events: asyncio.Queue[tuple[str, Any] | None] = field(default_factory=asyncio.Queue)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    work: Future[None] | None = None
    vote: VoteWord | None = None
    rounds: list[Round] = field(default_factory=list)
    """What `repeat` took."""
    repetition: Repetition | None = None

    def tell(self, place: int, kind: str, data: Mapping[str, Any]) -> None:
        """Send an event to the page, and keep what the model says. A blind side has no names until the vote."""
        side = self.sides[place]
        if kind == "delta":
            setattr(side, name := "reasoning" if data["reasoning"] else "text", getattr(side, name) + data["text"])
        told = {"exchange": self.id, **data, **({} if self.alone else {"side": place, "seed": self.seed})}
        if self.blind and self.vote is None:
            told |= {name: None for name in ("host", "model", "curl", "python", "suite") if name in told}
            told |= {"message": "this side gave no answer"} if "message" in told else {}
            told |= {"why": "the host is not ready yet"} if "why" in told else {}
            told |= {"who": []} if "who" in told else {}
        with suppress(RuntimeError):  # the server's loop is closed
            self.loop.call_soon_threadsafe(self.events.put_nowait, (kind, told))

    @property
    def answered(self) -> bool:
        """Whether every side has an answer."""
        return all(side.sample is not None and side.sample.ok for side in self.sides)

    def name_sides(self) -> None:
        """Tell the names of blind sides: there is nothing to vote on."""
        self.blind = False
        for place, side in enumerate(self.sides):
            self.tell(place, "named", {"host": side.request.host, "model": side.request.model})

    def end(self) -> None:
        """No more events."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.events.put_nowait, None)
        if self.repetition is not None:
            self.repetition.end()


@dataclass(eq=False)
class Exchanges:
    """All exchanges of this server, the oldest forgotten."""

    talker: Talker
    kept: dict[str, TalkExchange] = field(default_factory=dict)

    def get(self, exchange_id: str) -> TalkExchange:
        """ApiRefusal where there is none."""
        if exchange_id not in self.kept:
            raise ApiRefusal(404, f"no exchange {exchange_id!r}; only the newest {_MOST_KEPT} are kept")
        return self.kept[exchange_id]

    async def try_one(self, body: TryBody) -> TalkExchange:
        """Begin an exchange with one model."""
        await self._find_hosts([body.host])
        side = TalkSide(_make_request(body, body.host, body.model, body.given))
        return self._begin([side], alone=True, wait=body.wait, seed=body.given.get("seed"))

    async def compare(self, body: CompareBody) -> TalkExchange:
        """Begin the same exchange on several sides. ApiRefusal for sides at once that share a machine."""
        hosts = await self._find_hosts([side.host for side in body.sides])
        machines = [host.exclusive for host in hosts]
        shared = tuple(sorted({machine for machine in machines if machines.count(machine) > 1}))
        if body.mode == "together" and shared and not body.anyway:
            text = f"sides share {', '.join(shared)}: at once they slow each other; run them in turns, or anyway"
            raise ApiRefusal(409, text, "mode", shared=shared)
        sampling = {"seed": secrets.randbelow(2**31), **body.given}
        sides = [TalkSide(_make_request(body, side.host, side.model, sampling)) for side in body.sides]
        if body.blind:
            random.SystemRandom().shuffle(sides)
        return self._begin(
            sides,
            blind=body.blind,
            together=body.mode == "together",
            wait=body.wait,
            seed=sampling["seed"],
        )

    async def _find_hosts(self, names: Sequence[str]) -> list[Host]:
        inventory = await asyncio.to_thread(self.talker.desk.read_inventory)
        for name in names:
            if name not in inventory.hosts:
                raise ApiRefusal(422, f"host: no host {name!r} in the hosts file", "host")
        return [inventory.get(name) for name in names]

    def _begin(
        self,
        sides: list[TalkSide],
        *,
        alone: bool = False,
        blind: bool = False,
        together: bool = False,
        wait: bool,
        seed: int | None,
    ) -> TalkExchange:
        said = json.dumps(sides[0].request.messages, sort_keys=True, ensure_ascii=False)
        exchange = TalkExchange(
            id=secrets.token_hex(8),
            sides=sides,
            alone=alone,
            blind=blind,
            together=together,
            wait=wait,
            seed=seed,
            prompt_sha256=hashlib.sha256(said.encode("utf-8", "replace")).hexdigest(),
        )
        self.kept[exchange.id] = exchange
        while len(self.kept) > _MOST_KEPT:
            del self.kept[next(iter(self.kept))]
        exchange.work = self.talker.submit(self._run(exchange))
        return exchange

    async def _run(self, exchange: TalkExchange) -> None:
        """In the thread of the exchanges."""
        try:
            if exchange.together:
                await self._run_sides(exchange, range(len(exchange.sides)))
            else:
                for place in range(len(exchange.sides)):
                    await self._run_sides(exchange, [place])
        finally:
            if exchange.blind and not exchange.answered:
                exchange.name_sides()
            exchange.end()

    async def _run_sides(self, exchange: TalkExchange, places: Sequence[int]) -> None:
        """These sides at once; what goes wrong with one is told to it."""

        def tell_all(kind: str, data: Mapping[str, Any]) -> None:
            for place in places:
                exchange.tell(place, kind, data)

        try:
            requests = [exchange.sides[place].request for place in places]
            async with self.talker.use(requests, tell_all, wait=exchange.wait) as grants:
                await asyncio.gather(
                    *(self._run_side(exchange, place, grant) for place, grant in zip(places, grants, strict=True))
                )
        except UsedByRun as used:
            tell_all("refused", {"who": list(used.who), "message": str(used)})
        except BoobenchError as error:
            tell_all("failed", {"kind": "host", "message": str(error)})
        except asyncio.CancelledError:
            tell_all("failed", {"kind": "stopped", "message": "stopped"})
            raise

    async def _run_side(self, exchange: TalkExchange, place: int, grant: Grant) -> None:
        side = exchange.sides[place]
        try:
            talked = await converse(grant, side.request, lambda kind, data: exchange.tell(place, kind, data))
        except BoobenchError as error:
            exchange.tell(place, "failed", {"kind": "host", "message": str(error)})
            return
        side.sample = talked.sample
        if talked.sample.failure is not None:
            failed = {"kind": talked.sample.failure, "message": talked.sample.failure_text or talked.sample.failure}
            exchange.tell(place, "failed", failed)
        else:
            inventory = await asyncio.to_thread(self.talker.desk.read_inventory)
            exchange.tell(place, "done", _describe(talked, side.request, inventory.get(side.request.host)))

    def stop(self, exchange_id: str) -> None:
        """Abort what goes on."""
        exchange = self.get(exchange_id)
        if exchange.work is not None:
            exchange.work.cancel()

    def repeat(self, exchange_id: str, body: RepeatBody) -> Repetition:
        """Begin more rounds of a comparison. ApiRefusal while it goes on or is blind, or if a side has no answer."""
        exchange = self.get(exchange_id)
        if exchange.alone:
            raise ApiRefusal(409, "only a comparison is repeated")
        if exchange.blind and exchange.vote is None:
            raise ApiRefusal(409, "the sides are blind until the vote")
        if not exchange.answered:
            raise ApiRefusal(409, "expected the answers of all sides first")
        before = exchange.repetition
        if before is not None and before.work is not None and not before.work.done():
            raise ApiRefusal(409, "it is being repeated; stop that first")
        requests = [side.request for side in exchange.sides]
        exchange.repetition = again = Repetition(exchange.id, requests, body.times, exchange.rounds, body.wait)
        again.work = self.talker.submit(again.run(self.talker))
        return again

    def vote(self, exchange_id: str, word: VoteWord) -> VoteAnswer:
        """Keep a vote in the store, and tell who the sides were. ApiRefusal for a second vote."""
        exchange = self.get(exchange_id)
        sides = [{"host": side.request.host, "model": side.request.model} for side in exchange.sides]
        if exchange.alone or (word in "abcd" and "abcd".index(word) >= len(sides)):
            raise ApiRefusal(422, "vote: expected the letter of a side, tie or both bad", "vote")
        if exchange.vote is not None:
            raise ApiRefusal(409, f"vote: the vote was {exchange.vote} already", "vote")
        if not exchange.answered:
            raise ApiRefusal(409, "vote: expected the answers of all sides first", "vote")
        vote = Vote(
            voted_at=time.time(),
            prompt_sha256=exchange.prompt_sha256,
            sides=tuple(sides),
            vote=word,
            seed=exchange.seed,
            blind=exchange.blind,
        )
        with self.talker.desk.write_store() as store:
            store.record_vote(vote)
            tallies = {(one.a, one.b): one for one in count_votes(store.votes())}
        exchange.vote = word
        names = [sorted(map(name_side, pair)) for pair in combinations(sides, 2)]
        pairs = [(a, b) for a, b in names]
        found = [tallies[a, b] for a, b in dict.fromkeys(pairs) if (a, b) in tallies]
        named = tuple(NamedSide(**side) for side in sides)
        first = found[0] if found else make_tally(*pairs[0], [])
        return VoteAnswer(sides=named, tally=first, tallies=tuple(found))

    async def export(self, exchange_id: str) -> ExportAnswer:
        """The exchange with its texts. ApiRefusal while its sides are blind."""
        exchange = self.get(exchange_id)
        if exchange.blind and exchange.vote is None:
            raise ApiRefusal(409, "the sides are blind until the vote")
        inventory = await asyncio.to_thread(self.talker.desk.read_inventory)
        first, second = exchange.sides[0].request, exchange.sides[min(1, len(exchange.sides) - 1)].request
        return ExportAnswer(
            exchange=exchange.id,
            prompt_sha256=exchange.prompt_sha256,
            seed=exchange.seed,
            vote=exchange.vote,
            messages=first.messages,
            sampling=first.sampling,
            max_tokens=first.max_tokens,
            sides=tuple(
                ExportedSide(
                    host=side.request.host,
                    model=side.request.model,
                    reasoning=side.reasoning,
                    text=side.text,
                    sample=describe_sample(side.sample) if side.sample is not None else None,
                )
                for side in exchange.sides
            ),
            arena_url=fill_arena(inventory.arena, first.model, second.model, _find_prompt(first)),
        )


def _make_request(body: PromptBody, host: str, model: str, sampling: Mapping[str, Any]) -> TalkRequest:
    system = [{"role": "system", "content": body.system}] if body.system else []
    messages = [message.model_dump(mode="json") for message in body.messages]
    return TalkRequest(
        host=host,
        model=model,
        messages=(*system, *messages),
        sampling=sampling,
        max_tokens=body.max_tokens,
    )


def _describe(talked: Talked, request: TalkRequest, host: Host) -> dict[str, Any]:
    sample = talked.sample
    return {
        "sample": describe_sample(sample),
        "finish_reason": sample.finish_reason,
        "curl": write_curl(host, talked.url, talked.call),
        "python": write_python(host, talked.url, talked.call),
        "suite": write_suite(
            request.host, request.model, sample.prompt_tokens or 1, request.max_tokens, request.sampling
        ),
    }


def _find_prompt(request: TalkRequest) -> str:
    """The newest text of the user."""
    content = next((one["content"] for one in reversed(request.messages) if one["role"] == "user"), "")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")
