"""The page's server in a thread, on a real socket, and a client with its cookie."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from pytest_boobench.cli.project import find_project
from pytest_boobench.page.app import PageServer, make_app
from pytest_boobench.page.command import open_listener
from pytest_boobench.page.desk import Desk
from pytest_boobench.page.guard import Doorkeeper, find_names

OURS = {"X-Boobench": "page"}


@dataclass
class ServedPage:
    """A running server."""

    port: int
    doorkeeper: Doorkeeper
    server: PageServer
    client: httpx.Client
    announced: list[str]
    """Tokens that the terminal was shown."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        """The JSON of an address that must answer."""
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: object, status: int = 200) -> Any:
        """The JSON of an answer with this status."""
        response = self.client.post(path, json=body)
        assert response.status_code == status, response.text
        return response.json()

    def stream(self, method: str, path: str, body: object = None, **headers: str) -> Iterator[tuple[str, Any, str]]:
        """(kind, data, number) of each event."""
        with self.client.stream(method, path, json=body, headers=headers) as response:
            assert response.status_code == 200, response.read()
            said: dict[str, str] = {}
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name and value:
                    said[name] = value
                elif said and "data" in said:
                    yield said["event"], json.loads(said["data"]), said.get("id", "")
                    said = {}

    def run(self, **body: object) -> dict[str, Any]:
        """A run from its start to its end: the run's last state."""
        started = self.post("/api/runs", body, 201)
        return self.follow(started["id"])

    def follow(self, run_id: str) -> dict[str, Any]:
        events = list(self.stream("GET", f"/api/runs/{run_id}/events"))
        assert events[-1][0] == "end"
        ended: dict[str, Any] = events[-1][1]
        return ended


def make_desk(folder: Path) -> Desk:
    project = find_project(folder)
    return Desk(
        project=project,
        places=(folder,),
        hosts_file=project.hosts_file,
        store_url=project.store_url,
        shared_store=False,
        environ=dict(os.environ),
    )


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[ServedPage]:
    """On this port; 0 is any free one."""
    listener = open_listener("127.0.0.1", port)
    port = listener.getsockname()[1]
    announced: list[str] = []
    doorkeeper = Doorkeeper(port, find_names("127.0.0.1", port), announced.append)
    app, page = make_app(make_desk(folder), doorkeeper)
    config = uvicorn.Config(app, http="h11", ws="none", lifespan="on", log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=OURS, timeout=60)
    try:
        assert client.post("/api/login", json={"token": doorkeeper.issue()}).status_code == 200
        yield ServedPage(port, doorkeeper, page, client, announced)
    finally:
        client.close()
        page.ending = server.should_exit = True
        thread.join()
        listener.close()
