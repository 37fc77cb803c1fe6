"""Door 3: the routes of the page's server: from an address to an answer."""

from __future__ import annotations

import asyncio
import signal
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
from pytest_boobench.page import bodies
from pytest_boobench.page.api_types import (
    ArenaAnswer,
    CommandAnswer,
    RunDetails,
    RunList,
    StateAnswer,
    to_json,
)
from pytest_boobench.page.desk import Desk
from pytest_boobench.page.guard import ApiRefusal, Doorkeeper, Guard
from pytest_boobench.page.run_book import RunBook
from pytest_boobench.page.run_file import RunFile
from pytest_boobench.page.static_files import send_asset, send_index
from pytest_boobench.page.streams import EventAnswer, follow_run
from pytest_boobench.page.suite_tree import SuiteTree
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
    ending: bool = False
    """Whether the server is about to end, and streams with it."""

    def __post_init__(self) -> None:
        self.tree = SuiteTree(self.desk)
        self.runs = RunBook(self.desk, self.tree)

    @asynccontextmanager
    async def live(self, _: Starlette) -> AsyncIterator[None]:
        """While the server runs."""
        self.runs.recall()
        following = asyncio.create_task(self.runs.follow())
        try:
            yield
        finally:
            self.ending = True
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await self.runs.close()

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
                arena=ArenaAnswer(template=None),
            )
        )

    async def tell_tree(self, request: Request) -> Response:
        query = request.query_params
        return ApiAnswer(await self.tree.answer(query.get("k", ""), refresh=query.get("refresh") == "1"))

    # --- runs

    async def list_runs(self, _: Request) -> Response:
        return ApiAnswer(RunList(runs=self.runs.list_answers()))

    async def start_run(self, request: Request) -> Response:
        started = await self.runs.start(await _read(request, bodies.RunBody))
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
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isdecimal() and len(last) < 16 else 0
        return EventAnswer(follow_run(run, after, ending=lambda: self.ending))


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
