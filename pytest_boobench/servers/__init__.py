"""Room 2, far side: one file per kind of server behind one small interface.

- ``interface``      what every kind can be asked: facts, models, prompts of an exact length, request bodies
- ``clients``        a host's two HTTP clients, and the Answer to a measured request
- ``patience``       how long a host may take to become ready
- ``control``        a control request, which waits for a host that is not ready; what is read of its answer
- ``prompts``        deterministic text of exactly N tokens, whatever counts them
- ``answers``        an answer from the wire -> one Sample
- ``openai``         any OpenAI-compatible server, the common core
- ``llama_server``   llama.cpp's llama-server, the embedded one included
- ``llama_router``   the same before several models
- ``llama_swap``     llama-swap; ``llama_swap_upstream`` is a model's own server behind it, ``admission`` its limits
- ``vllm``, ``lmstudio``, ``ollama``   what their names say; ``ollama_answers`` and ``ndjson`` read the latter's streams
- ``refusals``       what a host did instead of answering, and what would be right
- ``sampling``       refuses what a kind of server would silently drop
- ``connect``        which of them a host is
"""
