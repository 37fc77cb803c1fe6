"""Room 2, servers: one class per kind of server behind one small interface.

- ``clients``        the interface of every kind; a host's two HTTP clients, their timeouts, and a measured answer
- ``control``        a control request, which waits for a host that is not ready
- ``refusals``       explains why a control request got no useful answer
- ``command_line``   the command line that started a server, without its port and its secrets
- ``prompts``        deterministic text of exactly N tokens
- ``answers``        a measured answer -> one Sample, by ``chunks``, ``claims`` and ``witness``
- ``openai``         any OpenAI-compatible server, the common core
- ``llama_server``   llama.cpp's llama-server, also the embedded one, and its router
- ``llama_swap``     llama-swap; ``llama_swap_upstream`` is a model's own server behind it
- ``ollama``         Ollama; ``ollama_answers`` parses its streams
- ``vllm_lmstudio``  vLLM and LM Studio
- ``connect``        detects a host's kind
"""
