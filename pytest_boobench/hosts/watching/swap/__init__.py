"""Watching a llama-swap.

- ``stream``    its event stream, kept open
- ``events``    what the events say: who is in flight, which models are ready
- ``log``       its log of finished requests, to check the count by
- ``count``     both together -> the Traffic of a window
- ``watcher``   the Watcher that joins them; read this first
"""

from pytest_boobench.hosts.watching.swap.watcher import SwapWatcher

__all__ = ["SwapWatcher"]
