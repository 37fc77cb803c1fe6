"""Room 2, the child: one llama.cpp server, gone when its parent is. Run as a file of its own, apart from the package.

It needs xllamacpp and the standard library only, so it starts as fast as those load and whatever the parent's
working directory and import path. Its standard input is a pipe that the parent holds open and never writes to.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

ADDRESS_FILE = "address"
"""Where the child writes its URL, in the folder it shares with its parent."""


def main() -> NoReturn:
    """Serve until the parent is gone."""
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent ends its measuring first
    options = _read_options()
    threading.Thread(target=_leave_at_end_of_input, args=(options.folder,), daemon=True).start()
    server = _serve(options)  # kept: its deletion can hang
    _publish(options.folder, server.listening_address)
    _leave_when_orphaned(options.folder, parent)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serve.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="shared with the parent, removed at the end")
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--alias", action="append", required=True, help="a name to serve the model under")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--context-tokens", type=int, required=True, help="of each slot")
    return parser.parse_args()


def _serve(options: argparse.Namespace) -> Any:
    import xllamacpp  # noqa: PLC0415  # 100 MB that only this process loads

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = set(options.alias)
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context_tokens
    params.n_batch = params.n_ubatch = options.context_tokens  # a text for an embedding must fit into one batch
    params.n_threads_http = 2 * options.slots + 8  # questions for health and slots get through while requests queue
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = options.threads
        cpu.poll = 0  # spinning threads starve each other where cores are few
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.fit_params = False
    params.endpoint_metrics = True
    params.ui = False
    params.verbosity = 2  # warnings and errors: the log stays short however long the server runs
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise SystemExit(f"xllamacpp: {error}") from None  # the reason is in llama.cpp's own lines, just above


def _publish(folder: Path, address: str) -> None:
    draft = folder / f"{ADDRESS_FILE}.draft"
    draft.write_text(address)
    draft.replace(folder / ADDRESS_FILE)


def _leave_at_end_of_input(folder: Path) -> NoReturn:
    os.read(0, 1)
    _leave(folder)


def _leave_when_orphaned(folder: Path, parent: int) -> NoReturn:
    """The pipe outlives a killed parent where a process forked from it holds the other end."""
    while os.getppid() == parent:
        time.sleep(1)
    _leave(folder)


def _leave(folder: Path) -> NoReturn:
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # llama.cpp's own way out can hang


if __name__ == "__main__":
    main()
