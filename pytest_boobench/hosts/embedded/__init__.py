"""Room 2: the embedded host: a real llama.cpp server, in a process of its own, on a model that is written here.

- ``gguf``      the file format
- ``weights``   what the model says, and why it always does
- ``model``     its names, how heavy it is, where its file lies
- ``process``   the parent's side: start, url, alive, stop
- ``serve``     the child: nothing else imports xllamacpp
"""

from pytest_boobench.hosts.embedded.model import MODELS, EmbeddedSettings, find_problems
from pytest_boobench.hosts.embedded.process import EmbeddedServer, start

__all__ = ["MODELS", "EmbeddedServer", "EmbeddedSettings", "find_problems", "start"]
