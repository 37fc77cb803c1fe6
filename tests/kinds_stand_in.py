"""Stand-ins for kinds of server that cannot run here: a character is a token, and models have a state.

Each answers what its kind answers, and 404 to all else. They are driven by whole ``pytest --boobench`` sessions.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.fault_server import FaultServer, Peer, Seen

Page = Callable[[Peer, dict[str, Any]], Awaitable[None]]
TEMPLATE = "<user>"
"""What the chat templates put before a text."""


class StandIn:
    """Answers by path; keeps which models are loaded, and each path that was asked for."""

    def __init__(self, models: tuple[str, ...], loaded: tuple[str, ...] = ()) -> None:
        self.models = models
        self.loaded = set(loaded)
        self.asked: list[str] = []

    def pages(self) -> Mapping[str, Page]:
        """Path -> who answers."""
        raise NotImplementedError

    async def __call__(self, peer: Peer) -> None:
        """Find the page for a request."""
        path = peer.request.target.partition("?")[0]
        self.asked.append(path)
        page = self.pages().get(path)
        if page is None:
            await peer.answer("404 Not Found", {"error": {"message": f"no such path: {path}"}})
        else:
            await page(peer, peer.request.fields)


class KindServer(FaultServer):
    """A server whose requests are all one stand-in's, whatever they name."""

    def __init__(self, stand_in: StandIn) -> None:
        super().__init__({"stand-in": stand_in})

    def _choose(self, request: Seen) -> str:
        return "stand-in"


def fixed(value: object) -> Page:
    """A page that is always the same."""

    async def answer(peer: Peer, fields: dict[str, Any]) -> None:
        await peer.answer("200 OK", value)

    return answer


async def stream_openai(peer: Peer, chat: bool, tokens: int, usage: Mapping[str, Any], **last: Any) -> None:
    """A stream of so many tokens, a token an event, usage at its end."""
    await peer.head()
    for _ in range(tokens):
        text = {"delta": {"content": "a"}} if chat else {"text": "a"}
        await peer.event({"id": "x", "choices": [{"index": 0, "finish_reason": None, **text}]})
    await peer.event({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    await peer.event({"id": "x", "choices": [], "usage": usage, **last})
    await peer.event("[DONE]")
    await peer.chunk(b"")


class Ollama(StandIn):
    """Ollama: ``good`` answers, ``thinker`` thinks first, ``broken`` ends in an error, ``embedder`` only embeds."""

    version = "0.31.1"
    eval_ms = 50
    """What it says that each of its answers took, whatever it took."""

    def pages(self) -> Mapping[str, Page]:
        return {
            "/": self._greet,
            "/api/version": fixed({"version": self.version}),
            "/api/tags": fixed({"models": [{"name": name, "size": 4_000, "details": {}} for name in self.models]}),
            "/api/ps": self._list_loaded,
            "/api/show": self._show,
            "/api/chat": self._chat,
            "/api/generate": self._generate,
            "/api/embed": self._embed,
        }

    async def _greet(self, peer: Peer, fields: dict[str, Any]) -> None:
        text = b"Ollama is running"
        await peer.head("200 OK", "text/plain", f"Content-Length: {len(text)}")
        await peer.send(text)

    async def _list_loaded(self, peer: Peer, fields: dict[str, Any]) -> None:
        entry = {"context_length": 4096, "size": 5_000, "size_vram": 4_000}
        await peer.answer("200 OK", {"models": [{"name": name, **entry} for name in self.loaded]})

    async def _show(self, peer: Peer, fields: dict[str, Any]) -> None:
        info = {
            "general.architecture": "llama",
            "general.parameter_count": 8_000_000,
            "llama.context_length": 131_072,
            "llama.embedding_length": 4096,
        }
        kind = "embedding" if fields["model"] == "embedder" else "completion"
        body = {"details": {"quantization_level": "Q4_K_M"}, "model_info": info, "capabilities": [kind]}
        await peer.answer("200 OK", body)

    async def _chat(self, peer: Peer, fields: dict[str, Any]) -> None:
        self.loaded.add(fields["model"])
        prompt = TEMPLATE + fields["messages"][0]["content"]
        await self._tell(peer, fields, len(prompt), lambda text, key: {"message": {"role": "assistant", key: text}})

    async def _generate(self, peer: Peer, fields: dict[str, Any]) -> None:
        if fields.get("keep_alive") == 0:
            self.loaded.discard(fields["model"])
            await peer.answer("200 OK", {"response": "", "done": True, "done_reason": "unload"})
            return
        self.loaded.add(fields["model"])
        if not fields.get("prompt"):
            await peer.answer("200 OK", {"response": "", "done": True, "done_reason": "load"})
            return
        assert fields["raw"] is True
        await self._tell(peer, fields, len(fields["prompt"]), lambda text, key: {"response": text})

    async def _tell(
        self, peer: Peer, fields: dict[str, Any], prompt: int, line: Callable[[str, str], dict[str, Any]]
    ) -> None:
        count = fields["options"]["num_predict"]
        numbers = {
            "total_duration": 90_000_000,
            "load_duration": 7_000_000,
            "prompt_eval_count": prompt,
            "prompt_eval_duration": 20_000_000,
            "eval_count": count,
            "eval_duration": self.eval_ms * 1_000_000,
        }
        last = {**line("", "content"), "done": True, "done_reason": "length", **numbers}
        if not fields.get("stream"):
            await peer.answer("200 OK", last)
            return
        await peer.head("200 OK", "application/x-ndjson")
        for number in range(count):
            key = "thinking" if fields["model"] == "thinker" and number < 2 else "content"
            await self._line(peer, {**line("a", key), "done": False})
        await self._line(peer, {"error": "out of memory"} if fields["model"] == "broken" else last)
        await peer.chunk(b"")

    async def _line(self, peer: Peer, value: dict[str, Any]) -> None:
        await peer.chunk(json.dumps(value).encode() + b"\n")

    async def _embed(self, peer: Peer, fields: dict[str, Any]) -> None:
        self.loaded.add(fields["model"])
        text = fields["input"]
        body = {"embeddings": [[0.5]] if text else [], "total_duration": 4_000_000, "prompt_eval_count": len(text)}
        await peer.answer("200 OK", body)


class Vllm(StandIn):
    """vLLM: ``good`` has a cache that only a fresh salt keeps out of; ``plain`` takes from it whatever is asked."""

    def __init__(self, models: tuple[str, ...]) -> None:
        super().__init__(models, models)
        self._salts: set[str | None] = {None}

    def pages(self) -> Mapping[str, Page]:
        entries = [
            {"id": name, "object": "model", "owned_by": "vllm", "root": f"org/{name}", "max_model_len": 8192}
            for name in self.models
        ]
        return {
            "/version": fixed({"version": "0.21.0"}),
            "/v1/models": fixed({"object": "list", "data": entries}),
            "/tokenize": self._tokenize,
            "/v1/chat/completions": self._complete,
            "/v1/completions": self._complete,
            "/v1/embeddings": self._embed,
        }

    async def _tokenize(self, peer: Peer, fields: dict[str, Any]) -> None:
        text = TEMPLATE + fields["messages"][0]["content"] if "messages" in fields else fields["prompt"]
        if fields.get("add_special_tokens", "messages" not in fields):
            text = "^" + text
        tokens = [ord(letter) for letter in text]
        await peer.answer("200 OK", {"count": len(tokens), "max_model_len": 8192, "tokens": tokens})

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        chat = "messages" in fields
        prompt = TEMPLATE + fields["messages"][0]["content"] if chat else fields["prompt"]
        known = fields.get("cache_salt") in self._salts or fields["model"] == "plain"
        self._salts.add(fields.get("cache_salt"))
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": fields["min_tokens"],
            "prompt_tokens_details": {"cached_tokens": 16 if known else 0},
        }
        await stream_openai(peer, chat, fields["min_tokens"], usage)

    async def _embed(self, peer: Peer, fields: dict[str, Any]) -> None:
        usage = {"prompt_tokens": len("^" + fields["input"])}
        await peer.answer("200 OK", {"data": [{"index": 0, "embedding": [0.5]}], "usage": usage})


class LmStudio(StandIn):
    """LM Studio: loads a model at its first request, and answers 200 to paths that it does not have."""

    def pages(self) -> Mapping[str, Page]:
        return {
            **{path: fixed({"error": f"Unexpected endpoint: {path}"}) for path in ("/", "/props", "/version")},
            "/v1/models": fixed({"data": [{"id": name, "object": "model"} for name in self.models]}),
            "/api/v0/models": self._list,
            "/v1/chat/completions": self._complete,
            "/v1/completions": self._complete,
            "/v1/embeddings": self._embed,
        }

    async def _list(self, peer: Peer, fields: dict[str, Any]) -> None:
        entries = [
            {
                "id": name,
                "type": "embeddings" if name == "embedder" else "llm",
                "quantization": "Q4_K_M",
                "state": "loaded" if name in self.loaded else "not-loaded",
                "max_context_length": 131_072,
                **({"loaded_context_length": 4096} if name in self.loaded else {}),
            }
            for name in self.models
        ]
        await peer.answer("200 OK", {"object": "list", "data": entries})

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        self.loaded.add(fields["model"])
        chat = "messages" in fields
        prompt = TEMPLATE + fields["messages"][0]["content"] if chat else fields["prompt"]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": fields["max_tokens"]}
        if fields.get("stream"):
            await stream_openai(peer, chat, fields["max_tokens"], usage)
        else:
            await peer.answer("200 OK", {"choices": [], "usage": usage})

    async def _embed(self, peer: Peer, fields: dict[str, Any]) -> None:
        self.loaded.add(fields["model"])
        usage = {"prompt_tokens": len(fields["input"])}
        await peer.answer("200 OK", {"data": [{"index": 0, "embedding": [0.5]}], "usage": usage})


class Router(StandIn):
    """llama-server as a router: ``good`` loads, ``doomed`` fails, ``stuck`` never ends, ``sleeper`` sleeps."""

    def __init__(self, models: tuple[str, ...], loaded: tuple[str, ...] = ()) -> None:
        super().__init__(models, loaded)
        self.states = {name: "loaded" if name in loaded else "unloaded" for name in models}
        self.states |= {"sleeper": "sleeping"} if "sleeper" in models else {}

    def pages(self) -> Mapping[str, Page]:
        return {
            "/health": fixed({"status": "ok"}),
            "/props": self._props,
            "/models": self._list,
            "/v1/models": self._list,
            "/slots": fixed([{"id": 0, "is_processing": False}]),
            "/models/load": self._load,
            "/models/unload": self._unload,
            "/tokenize": self._of_loaded(self._tokenize),
            "/apply-template": self._of_loaded(self._apply_template),
            "/v1/chat/completions": self._of_loaded(self._complete),
            "/v1/completions": self._of_loaded(self._complete),
        }

    async def _props(self, peer: Peer, fields: dict[str, Any]) -> None:
        query = peer.request.target.partition("?")[2]
        if not query:
            router = {"role": "router", "max_instances": 4, "build_info": "b11434", "default_generation_settings": {}}
            await peer.answer("200 OK", router)
            return
        model = query.removeprefix("model=").removesuffix("&autoload=false")
        assert query.endswith("&autoload=false"), "a look must not load"
        settings = {
            "total_slots": 2,
            "model_path": f"/models/{model}.gguf",
            "default_generation_settings": {"n_ctx": 64},
        }
        await peer.answer("200 OK", settings)

    async def _list(self, peer: Peer, fields: dict[str, Any]) -> None:
        entries = []
        for name, state in self.states.items():
            meta = {"meta": {"n_params": 8_000_000, "size": 4_000}} if state == "loaded" else {}
            failed = {"failed": True, "exit_code": 1} if state == "failed" else {}
            args = {"args": ["/bin/llama-server", "--port", "6070", "-m", f"{name}.gguf"]} if state == "loaded" else {}
            status = {"value": "unloaded" if state == "failed" else state, **args, **failed}
            entries.append({"id": name, "aliases": [f"{name}-alias"], "status": status, **meta})
        await peer.answer("200 OK", {"data": entries})
        for name, state in self.states.items():
            if state == "loading" and name != "stuck":
                self.states[name] = "failed" if name == "doomed" else "loaded"

    async def _load(self, peer: Peer, fields: dict[str, Any]) -> None:
        assert self.states[fields["model"]] != "loaded"
        self.states[fields["model"]] = "loading"
        await peer.answer("200 OK", {"success": True})

    async def _unload(self, peer: Peer, fields: dict[str, Any]) -> None:
        self.states[fields["model"]] = "unloaded"
        await peer.answer("200 OK", {"success": True})

    def _of_loaded(self, page: Page) -> Page:
        async def answer(peer: Peer, fields: dict[str, Any]) -> None:
            name = fields["model"].removesuffix("-alias")
            if self.states[name] == "sleeping":
                self.states[name] = "loaded"
            if self.states[name] != "loaded":
                await peer.answer("400 Bad Request", {"error": {"code": 400, "message": "model is not loaded"}})
            else:
                await page(peer, fields)

        return answer

    async def _tokenize(self, peer: Peer, fields: dict[str, Any]) -> None:
        await peer.answer("200 OK", {"tokens": [ord(letter) for letter in fields["content"]]})

    async def _apply_template(self, peer: Peer, fields: dict[str, Any]) -> None:
        await peer.answer("200 OK", {"prompt": TEMPLATE + fields["messages"][0]["content"]})

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        assert peer.request.target.endswith("?autoload=false"), "no load in a measured request"
        chat = "messages" in fields
        prompt = TEMPLATE + fields["messages"][0]["content"] if chat else fields["prompt"]
        count = fields["max_tokens"]
        timings = {"cache_n": 0, "prompt_n": len(prompt), "prompt_ms": 2.0, "predicted_n": count, "predicted_ms": 10.0}
        await stream_openai(peer, chat, count, {}, timings=timings)
