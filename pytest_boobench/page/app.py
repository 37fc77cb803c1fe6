"""Door 3: the routes of the page's server: from an address to an answer."""

from __future__ import annotations

import asyncio
import html
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import Any

import click
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pytest_boobench import find_version
from pytest_boobench.errors import BoobenchError
from pytest_boobench.page import bodies, past
from pytest_boobench.page.api_types import (
    ArenaAnswer,
    CommandAnswer,
    HostList,
    RunDetails,
    RunList,
    SamplingField,
    SamplingList,
    StateAnswer,
    to_json,
)
from pytest_boobench.page.desk import Desk
from pytest_boobench.page.duel import Exchanges, TalkExchange
from pytest_boobench.page.guard import ApiRefusal, Doorkeeper, Guard
from pytest_boobench.page.host_states import HostStates
from pytest_boobench.page.past_types import TallyList
from pytest_boobench.page.run_book import RunBook
from pytest_boobench.page.run_file import RunFile
from pytest_boobench.page.static_files import send_asset, send_index
from pytest_boobench.page.streams import EventAnswer, follow_run, read_queue
from pytest_boobench.page.suite_tree import SuiteTree
from pytest_boobench.page.talk import Talker
from pytest_boobench.page.tallies import count_votes
from pytest_boobench.reports.html import RUNS
from pytest_boobench.untrusted import hide_secrets

_SIGNALS = {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM}


class ApiAnswer(Response):
    """JSON."""

    media_type = "application/json"

    def __init__(self, value: Any, status: int = 200) -> None:
        super().__init__(to_json(value), status)


@dataclass(eq=False)
class PageServer:
    """All that the routes use."""

    desk: Desk
    doorkeeper: Doorkeeper
    tree: SuiteTree = field(init=False)
    runs: RunBook = field(init=False)
    hosts: HostStates = field(init=False)
    exchanges: Exchanges = field(init=False)
    ending: bool = False
    """Whether the server is about to end, and streams with it."""

    def __post_init__(self) -> None:
        self.tree = SuiteTree(self.desk)
        self.runs = RunBook(self.desk, self.tree)
        self.hosts = HostStates(self.desk, self.runs)
        self.exchanges = Exchanges(Talker(self.desk, self.hosts))

    @asynccontextmanager
    async def live(self, _: Starlette) -> AsyncIterator[None]:
        """While the server runs."""
        self.runs.recall()
        following = asyncio.create_task(self.runs.follow())
        try:
            yield
        finally:
            self.end()
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await self.exchanges.talker.close()
            await self.hosts.rest()
            await self.runs.close()

    def end(self) -> None:
        """End all streams: the server is about to end, and would wait for them."""
        self.ending = True
        for run in self.runs.runs.values():
            run.changed.set()
        for exchange in self.exchanges.kept.values():
            exchange.end()

    # --- the way in

    async def login(self, request: Request) -> Response:
        body = await _read(request, bodies.LoginBody)
        answer = ApiAnswer({"ok": True})
        if not self.doorkeeper.knows(request.headers):
            session = self.doorkeeper.admit(body.token)
            answer.set_cookie(self.doorkeeper.cookie, session, httponly=True, samesite="strict", path="/")
        return answer

    async def tell_state(self, _: Request) -> Response:
        inventory = await asyncio.to_thread(self.desk.read_inventory)
        return ApiAnswer(
            StateAnswer(
                version=find_version(),
                rootdir=str(self.desk.root),
                store=hide_secrets(self.desk.store_url),
                hosts_file=inventory.display,
                runs=self.runs.list_answers(),
                arena=ArenaAnswer(template=inventory.arena),
            )
        )

    async def tell_tree(self, request: Request) -> Response:
        query = request.query_params
        return ApiAnswer(await self.tree.answer(query.get("k", ""), refresh=query.get("refresh") == "1"))

    # --- runs

    async def list_runs(self, _: Request) -> Response:
        return ApiAnswer(RunList(runs=self.runs.list_answers()))

    async def start_run(self, request: Request) -> Response:
        body = await _read(request, bodies.RunBody)
        if not body.dry:
            await self.exchanges.talker.rest()
            await self.hosts.rest()
        started = await self.runs.start(body)
        return (
            ApiAnswer(CommandAnswer(command=started))
            if isinstance(started, str)
            else ApiAnswer(started.describe(), 201)
        )

    async def tell_run(self, request: Request) -> Response:
        return ApiAnswer(_detail(self.runs.get(request.path_params["id"])))

    async def stop_run(self, request: Request) -> Response:
        body = await _read(request, bodies.StopBody)
        return ApiAnswer(self.runs.stop(request.path_params["id"], _SIGNALS[body.how]).describe())

    async def stream_run(self, request: Request) -> Response:
        run = self.runs.get(request.path_params["id"])
        last = request.headers.get("last-event-id") or request.query_params.get("after", "")
        return EventAnswer(follow_run(run, last, ending=lambda: self.ending))

    # --- the past

    async def tell_history(self, request: Request) -> Response:
        query = request.query_params
        selection = past.read_selection(query, last=200)
        return ApiAnswer(await asyncio.to_thread(past.read_history, self.desk, selection, query.get("metric", "")))

    async def tell_sessions(self, request: Request) -> Response:
        last = past.read_selection(request.query_params, last=50).last or 50
        return ApiAnswer(await asyncio.to_thread(past.read_sessions, self.desk, last))

    async def compare_sessions(self, request: Request) -> Response:
        first, second = (request.query_params.get(name, "") for name in ("a", "b"))
        return ApiAnswer(await asyncio.to_thread(past.compare_sessions, self.desk, first, second))

    async def set_baseline(self, request: Request) -> Response:
        body = await _read(request, bodies.BaselineBody)
        return ApiAnswer(await asyncio.to_thread(past.set_baseline, self.desk, body), 201)

    async def clear_baseline(self, request: Request) -> Response:
        body = await _read(request, bodies.ClearBody)
        return ApiAnswer(await asyncio.to_thread(past.clear_baseline, self.desk, body))

    async def send_report(self, request: Request) -> Response:
        selection = past.read_selection(request.query_params, last=RUNS)
        page = await asyncio.to_thread(past.render_report, self.desk, selection, time.time())
        # the report's own policy is stricter, but allows its inline script by its hash
        policy = re.search(r'"Content-Security-Policy" content="([^"]+)"', page)
        own = html.unescape(policy[1]) if policy is not None else "default-src 'none'"
        headers = {"Content-Security-Policy": f"{own}; frame-ancestors 'none'"}
        return Response(page, media_type="text/html", headers=headers)

    # --- hosts and models

    async def list_hosts(self, _: Request) -> Response:
        return ApiAnswer(HostList(hosts=await self.hosts.list_hosts()))

    async def list_sampling(self, _: Request) -> Response:
        return ApiAnswer(list_sampling())

    async def try_model(self, request: Request) -> Response:
        return self._stream(await self.exchanges.try_one(await _read(request, bodies.TryBody)))

    async def compare_models(self, request: Request) -> Response:
        return self._stream(await self.exchanges.compare(await _read(request, bodies.CompareBody)))

    def _stream(self, exchange: TalkExchange) -> Response:
        return EventAnswer(read_queue(exchange.events, lambda: self.exchanges.stop(exchange.id)))

    async def stop_exchange(self, request: Request) -> Response:
        self.exchanges.stop(request.path_params["id"])
        return ApiAnswer({"ok": True})

    async def repeat(self, request: Request) -> Response:
        body = await _read(request, bodies.RepeatBody)
        repetition = self.exchanges.repeat(request.path_params["id"], body)
        return EventAnswer(read_queue(repetition.events, repetition.stop))

    async def vote(self, request: Request) -> Response:
        body = await _read(request, bodies.VoteBody)
        return ApiAnswer(await asyncio.to_thread(self.exchanges.vote, request.path_params["id"], body.vote))

    async def export_exchange(self, request: Request) -> Response:
        return ApiAnswer(await self.exchanges.export(request.path_params["id"]))

    async def list_votes(self, _: Request) -> Response:
        def count() -> TallyList:
            with self.desk.open_store() as store:
                return TallyList(tallies=tuple(count_votes(store.votes())) if store is not None else ())

        return ApiAnswer(await asyncio.to_thread(count))


def list_sampling() -> SamplingList:
    """The suite's sampling fields, with the bounds of its JSON Schema."""
    properties = bodies.SamplingBody.model_json_schema()["properties"]
    return SamplingList(
        fields=tuple(
            SamplingField(
                name=name,
                type="integer" if told.get("type") == "integer" else "number",
                minimum=told.get("minimum"),
                maximum=told.get("maximum"),
            )
            for name, told in properties.items()
        )
    )


def _detail(run: RunFile) -> RunDetails:
    known = run.describe()
    return RunDetails(**{one.name: getattr(known, one.name) for one in fields(known)}, cells=tuple(run.cells.values()))


async def _read(request: Request, kind: type[bodies.B]) -> bodies.B:
    return bodies.read_body(kind, await request.body())


def make_app(desk: Desk, doorkeeper: Doorkeeper) -> tuple[ASGIApp, PageServer]:
    """The application behind its guard, and what it uses."""
    server = PageServer(desk, doorkeeper)
    app = Starlette(
        routes=[
            Route("/", send_index),
            Route("/assets/{name:path}", send_asset),
            *(Route(path, handler, methods=[method]) for method, path, handler in list_routes(server)),
        ],
        lifespan=server.live,
        exception_handlers={
            ApiRefusal: _answer_refusal,
            BoobenchError: _answer_trouble,
            click.UsageError: _answer_usage,
            HTTPException: _answer_http,
            Exception: _answer_bug,
        },
    )
    return Guard(app, doorkeeper), server


Handler = Callable[[Request], Awaitable[Response]]


def list_routes(server: PageServer) -> list[tuple[str, str, Handler]]:
    """(method, path, handler) of the API."""
    return [
        ("POST", "/api/login", server.login),
        ("GET", "/api/state", server.tell_state),
        ("GET", "/api/tree", server.tell_tree),
        ("GET", "/api/runs", server.list_runs),
        ("POST", "/api/runs", server.start_run),
        ("GET", "/api/runs/{id}", server.tell_run),
        ("POST", "/api/runs/{id}/stop", server.stop_run),
        ("GET", "/api/runs/{id}/events", server.stream_run),
        ("GET", "/api/history", server.tell_history),
        ("GET", "/api/sessions", server.tell_sessions),
        ("GET", "/api/compare", server.compare_sessions),
        ("POST", "/api/baselines", server.set_baseline),
        ("POST", "/api/baselines/clear", server.clear_baseline),
        ("GET", "/api/report", server.send_report),
        ("GET", "/api/hosts", server.list_hosts),
        ("GET", "/api/sampling", server.list_sampling),
        ("POST", "/api/try", server.try_model),
        ("POST", "/api/try/{id}/stop", server.stop_exchange),
        ("POST", "/api/ab", server.compare_models),
        ("POST", "/api/ab/{id}/stop", server.stop_exchange),
        ("POST", "/api/ab/{id}/repeat", server.repeat),
        ("POST", "/api/ab/{id}/vote", server.vote),
        ("GET", "/api/ab/{id}/export", server.export_exchange),
        ("GET", "/api/votes", server.list_votes),
    ]


# --- errors


def _answer_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiRefusal)  # noqa: S101  # Starlette gives it for this class only
    return ApiAnswer(error.answer, error.status)


def _answer_trouble(request: Request, error: Exception) -> Response:
    return _answer_refusal(request, ApiRefusal(503, str(error)))


def _answer_usage(request: Request, error: Exception) -> Response:
    assert isinstance(error, click.UsageError)  # noqa: S101
    return _answer_refusal(request, ApiRefusal(422, error.format_message()))


def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    texts = {404: "no such address", 405: "this address takes another method"}
    return _answer_refusal(request, ApiRefusal(error.status_code, texts.get(error.status_code, error.detail)))


def _answer_bug(request: Request, error: Exception) -> Response:
    name = type(error).__name__
    return _answer_refusal(request, ApiRefusal(500, f"{name}: this is a bug of pytest-boobench; the terminal shows it"))
