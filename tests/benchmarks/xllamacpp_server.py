"""A llama.cpp server from whichever wheel of xllamacpp its interpreter has; a file that needs nothing else.

    boobench bisect --candidates 'xllamacpp==2026.4.8672,…' -- \
        '{python}' tests/benchmarks/xllamacpp_server.py --port '{port}' --model model.gguf
"""

from __future__ import annotations

import argparse
import threading


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=4096)
    asked = parser.parse_args()

    import xllamacpp  # after the arguments were read: it takes a second

    params = xllamacpp.CommonParams()
    params.port = asked.port
    if hasattr(params, "hostname"):
        params.hostname = "127.0.0.1"
    else:
        params.hostnames = ["127.0.0.1"]
    params.model.path = asked.model
    params.model_alias = {"model"} if isinstance(params.model_alias, set) else "model"
    params.n_parallel = 1
    params.n_ctx = params.n_batch = params.n_ubatch = asked.context
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = asked.threads
    params.endpoint_metrics = True
    for name, value in {"cache_ram_mib": 0, "cache_idle_slots": False, "fit_params": False}.items():
        if hasattr(params, name):  # older wheels lack some
            setattr(params, name, value)
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
