"""Room 2: the servers a user has, and leave to use one.

- ``inventory``   the hosts file: the only place that knows a URL; ``addresses`` are its URLs and keys
- ``access``      the Grant: leave to use a host now, exclusive among our own runs
- ``quiet``       whether others use it: waits, refuses, or takes over
- ``connection``  a host, connected: its server, who watches it, what to end and bring back
- ``aftercare``   what a llama-swap had ready before us, so that it is loaded again
- ``watching``    foreign requests, before a cell and while it runs
- ``canary``      how fast this machine is, for hosts that run on it
- ``embedded``    a real llama.cpp server in a process of its own, on models the package writes itself
"""
