"""Room 2, the child process: a llama.cpp server that ends with its parent. Run as a file, without the package.

It needs only xllamacpp and the standard library, so that it starts fast with any import path. Its one argument is a
JSON object: "folder" (shared with the parent, removed at the end), "model" (a GGUF file), "aliases" (the model's
names) and the fields of EmbeddedSettings. Its standard input is a pipe: the parent holds it open and never writes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

ADDRESS_FILE = "address"
"""The file with the child's URL, in the folder that it shares with its parent."""


def main() -> NoReturn:
    """Serve until the parent has ended."""
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent stops measuring first
    options = SimpleNamespace(**json.loads(sys.argv[1]))
    folder = Path(options.folder)
    threading.Thread(target=_leave_at_end_of_input, args=(folder,), daemon=True).start()
    server = _serve(options)  # kept in a variable: its deletion can hang
    draft = folder / f"{ADDRESS_FILE}.draft"
    draft.write_text(server.listening_address)
    draft.replace(folder / ADDRESS_FILE)
    _leave_when_orphaned(folder, parent)


def _serve(options: SimpleNamespace) -> Any:
    import xllamacpp  # noqa: PLC0415  # only this process loads its 100 MB

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = set(options.aliases)
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context_tokens
    params.n_batch = params.n_ubatch = options.context_tokens  # a text for an embedding must fit into one batch
    params.n_threads_http = 2 * options.slots + 8  # so that /health and /slots answer while requests queue
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = options.threads
        cpu.poll = 0  # spinning threads starve each other on few cores
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.fit_params = False
    params.endpoint_metrics = True
    params.ui = False
    params.verbosity = 2  # warnings and errors only, so that the log stays short
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise SystemExit(f"xllamacpp: {error}") from None  # llama.cpp's own lines, just above, give the reason


def _leave_at_end_of_input(folder: Path) -> NoReturn:
    os.read(0, 1)
    _leave(folder)


def _leave_when_orphaned(folder: Path, parent: int) -> NoReturn:
    """End when the parent is gone, even if a process forked from it still holds its end of the pipe."""
    while os.getppid() == parent:
        time.sleep(1)
    _leave(folder)


def _leave(folder: Path) -> NoReturn:
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # llama.cpp's own shutdown can hang


if __name__ == "__main__":
    main()
