"""Foreign requests: who else uses a host, before a cell and while it runs.

- ``interface``    what every way of watching can be asked
- ``prometheus``   counters as servers write them -> sums
- ``stock``        what one llama-server says of itself at one moment
- ``ours``         by what its requests are known to be ours
- ``ended``        requests that came and went between two looks
- ``account``      its book for one window: whose requests, whose tokens
- ``processes``    the llama-servers behind an address: one, or a router's
- ``window``       an account for each of them
- ``slots``        the watcher of llama-server and its router
- ``vllm``         the watcher of vLLM
- ``swap``         the watcher of llama-swap
- ``naming``       what requests are called that a server tells little of
- ``choose``       which way a server offers
"""
