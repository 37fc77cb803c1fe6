"""llama-swap: one address for several models, which it starts and stops according to the requests.

Listing and looking never load a model; only `load`, prompts and measured requests do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx

from pytest_boobench.errors import HostError
from pytest_boobench.facts import Logprobs, ModelFacts, ServerFacts
from pytest_boobench.metrics import Sample
from pytest_boobench.servers import answers
from pytest_boobench.servers.clients import Call, Clients, Prompt, ServerAnswer
from pytest_boobench.servers.command_line import find_port, write_command
from pytest_boobench.servers.control import Question, list_names
from pytest_boobench.servers.llama_server import LlamaServer
from pytest_boobench.servers.llama_swap_upstream import Door, Upstream
from pytest_boobench.servers.openai import OpenAIServer
from pytest_boobench.servers.refusals import read_words
from pytest_boobench.suite.cell import Cell
from pytest_boobench.untrusted import Fault, clean_json, get_list, show, to_object, to_objects, to_text


class LlamaSwap(LlamaServer):
    """A llama-swap with llama-servers behind it; other servers and peers are measured as OpenAI-compatible ones."""

    kind = "llama-swap"
    can = replace(LlamaServer.can, load=True)

    def __init__(self, name: str, url: str, clients: Clients) -> None:
        super().__init__(name, url, clients)
        self.loaded: set[str] = set()
        """The models that were loaded for us."""
        self.announce: Callable[[str], None] = lambda _model: None
        """Called right before a model is loaded."""
        self._door = Door()
        self._foreign_engines: set[str] = set()
        """Models whose server is not a llama-server."""

    async def facts(self) -> ServerFacts:
        """Return versions of llama-swap and of the ready engines, its hardware, and the hardware's current load."""
        version = to_object(await self._find("/api/version"))
        ready = await self.find_ready()
        builds = {model: to_text((await self._upstream(model).find_props()).get("build_info")) for model in ready}
        engines = sorted({build for build in builds.values() if build})
        told = (to_text(version.get(key)) for key in ("version", "commit"))
        swap = " ".join(["llama-swap", *(text for text in told if text)])
        extra = {
            "llama_swap": clean_json(version),
            "engine_builds": clean_json(builds),
            "hardware": clean_json(await self._find("/api/hardware")),
            "performance": clean_json(_take_newest(to_object(await self._find("/api/performance")))),
        }
        return ServerFacts(
            kind=self.kind,
            url=self.url,
            engine_build=" + ".join([*engines, swap]),
            extra={key: value for key, value in extra.items() if value},
        )

    async def find_ready(self) -> list[str]:
        """Return the ids of ready models, without those that start or stop."""
        return [model for model, state in (await self._find_states()).items() if state == "ready"]

    async def _find_states(self) -> Mapping[str, object]:
        """Model -> its state; stopped models are missing."""
        return {model: entry.get("state") for model, entry in (await self._find_running()).items()}

    async def _find_running(self) -> Mapping[str, Mapping[str, Any]]:
        """Model -> llama-swap's facts of its server; stopped models are missing."""
        try:
            running = get_list(await self._ask_object(Question("GET", "/running")), "running")
        except Fault as fault:
            raise HostError(f"{self.name}: GET /running: {fault}") from fault
        return {entry["model"]: entry for entry in to_objects(running) if isinstance(entry.get("model"), str)}

    async def find_logged_name(self, model: str) -> str:
        """Return the name that llama-swap's log has for a model or an alias of it."""
        return await self._resolve(model) or model

    async def command(self, model: str) -> str | None:
        """Return the ``cmd`` of the model's configuration while its server runs; None from old versions."""
        entry = (await self._find_running()).get(await self._resolve(model) or "", {})
        said = entry.get("cmd")
        return write_command(said if isinstance(said, str) else "", find_port(entry.get("proxy"))) or self.started_with

    async def ready_models(self) -> Sequence[str] | None:
        """Return the ready models, each under all its names."""
        ready = await self.find_ready()
        names = {tuple(list_names(entry)) for entry in await self._model_list()} if ready else ()
        aliases = {id: also for id, *also in filter(None, names)}
        return [name for model in ready for name in (model, *aliases.get(model, ()))]

    async def model_facts(self, model: str) -> ModelFacts:
        """From the model's own server if it is ready, else from llama-swap's list."""
        name = await self._resolve(model)
        if name in await self.find_ready() and await self._upstream(name).find_props():
            return self._remember(await self._upstream(model).model_facts(model))
        return await OpenAIServer.model_facts(self, model)

    async def load(self, model: str) -> float | None:
        """Load by ``GET /upstream/MODEL/health``. None also for a peer's model, or one that is chosen per request."""
        name = await self._resolve(model)
        if name is None or name in await self.find_ready():
            return None
        self.announce(name)
        self.loaded.add(name)
        began = time.monotonic()
        response = await self._upstream(name).wait_until_ready()
        if response.status_code != httpx.codes.OK and name not in await self.find_ready():
            where = f"{self.name}: {model} does not load: {response.status_code}"
            raise HostError(f"{where}: {read_words(response.content)}; see llama-swap's log")
        return (time.monotonic() - began) * 1000

    async def unload(self, model: str) -> None:
        """Stop the model's server, even if others use it."""
        question = Question("POST", f"/api/models/unload/{quote(model, safe='/:')}")
        response = await self._request(question, timeout_s=self.clients.patience.explicit_load_s)
        if response.status_code != httpx.codes.OK:
            raise HostError(f"{self.name}: {question}: {response.status_code}: {read_words(response.content)}")

    async def restore(self, before: Sequence[str]) -> None:
        """Load the models again that were ready ``before``. Unload those that only we needed, once they are idle.

        Changes nothing if we loaded none, or if others have loaded a model since: they may be using it.
        """
        ready = set(await self.find_ready())
        if not self.loaded or ready - self.loaded - set(before):
            return
        for model in sorted(ready & self.loaded - set(before)):
            if await self._upstream(model).is_idle():
                await self.unload(model)
        for model in before:
            await self.load(model)

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Exact by the model's own tokenizer if its server is a llama-server, else fitted to ``usage``."""
        upstream = self._upstream(cell.model)
        if await upstream.find_props():
            self._foreign_engines.discard(cell.model)
            return await upstream.make_prompts(cell, nonces)
        self._foreign_engines.add(cell.model)
        return await OpenAIServer.make_prompts(self, cell, nonces)

    async def make_turns(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Exact by the model's own tokenizer if its server is a llama-server, else fitted to ``usage``."""
        upstream = self._upstream(cell.model)
        if await upstream.find_props():
            return await upstream.make_turns(cell, nonces)
        return await OpenAIServer.make_turns(self, cell, nonces)

    async def count_own(self, cell: Cell, own: Sequence[Prompt]) -> Sequence[int]:
        """By the model's own tokenizer if its server is a llama-server."""
        upstream = self._upstream(cell.model)
        if await upstream.find_props():
            self._foreign_engines.discard(cell.model)
            return await upstream.count_own(cell, own)
        self._foreign_engines.add(cell.model)
        return await OpenAIServer.count_own(self, cell, own)

    async def _ask_next_tokens(self, model: str, timeout_s: float) -> Logprobs:
        """From the model's own server, if that is a llama-server."""
        upstream = self._upstream(model)
        if await upstream.find_props():
            return await upstream.next_tokens(model, timeout_s)
        return await OpenAIServer._ask_next_tokens(self, model, timeout_s)

    def _find_slack(self, cell: Cell) -> int:
        return answers.find_slack(cell.prompt_tokens) if cell.model in self._foreign_engines else 0

    def _extras(self, cell: Cell) -> Mapping[str, Any]:
        return {} if cell.model in self._foreign_engines else super()._extras(cell)

    async def send(self, call: Call, cell: Cell) -> ServerAnswer:
        """While llama-swap has too many requests, send again after the time that it asks for."""
        return await self._door.send(lambda: super(LlamaSwap, self).send(call, cell), cell)

    def read(self, sample: Sample, answer: ServerAnswer, cell: Cell) -> Sample:
        """Failed if the cell sends more requests at once than llama-swap admits."""
        return self._door.check(super().read(sample, answer, cell), answer, cell)

    def _upstream(self, model: str) -> Upstream:
        async def starting() -> bool:
            return (await self._find_states()).get(await self._resolve(model) or model) == "starting"

        upstream = Upstream(self.name, self.url, self.clients, model, starting)
        upstream.prefixes = self.prefixes
        return upstream

    async def _resolve(self, model: str) -> str | None:
        """The model behind an alias; None for a peer's model, and for a name that llama-swap resolves per request."""
        for entry in await self._model_list():
            about = _about(entry)
            if model in (entry.get("id"), *entry["aliases"]):
                local = about.get("type", "model") in ("model", "alias")
                found = about.get("modelID") or entry.get("id")
                return found if local and isinstance(found, str) else None
        return model

    async def _model_list(self) -> list[Mapping[str, Any]]:
        """llama-swap's own list, with the aliases in the place that llama-server uses."""
        return [
            {**entry, "aliases": [*list_names({"aliases": _about(entry).get("aliases")})]}
            for entry in await super()._model_list()
        ]


def _about(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a listed model that only llama-swap has."""
    return to_object(to_object(entry.get("meta")).get("llamaswap"))


def _take_newest(performance: Mapping[str, Any]) -> Mapping[str, Any]:
    """The newest sample of the system, and of each GPU."""
    system = to_objects(performance.get("sys_stats"))[-1:]
    gpus = {show(sample.get("id")): sample for sample in to_objects(performance.get("gpu_stats"))}
    newest = {"system": system[0] if system else None, "gpus": [*gpus.values()]}
    return {key: value for key, value in newest.items() if value}
