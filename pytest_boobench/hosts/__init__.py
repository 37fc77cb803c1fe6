"""Room 2: the user's servers, and permission to use one.

- ``inventory``        the hosts file, the only place that knows a URL; ``host_fields`` are its fields, ``addresses``
                       its URLs and keys
- ``access``           the Grant: permission to use a quiet host, exclusive among our own runs
- ``open_host``        a connected host: its server, its watcher, and what to end and restore afterwards
- ``restore``          the models that a llama-swap had ready before us
- ``watcher``          finds foreign requests: ``llama_*``, ``swap_*`` and ``vllm_*`` by kind of server
- ``canary``           how fast this machine is now, for hosts that run on it
- ``embedded``         a llama.cpp server in its own process, with a model that the package writes itself
"""
