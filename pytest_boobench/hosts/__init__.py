"""Room 2: the servers a user has, and leave to use one.

- ``inventory``   the hosts file: the only place that knows a URL
- ``access``      the Grant: leave to use a host now, exclusive among our own runs
- ``embedded``    a real llama.cpp server in a process of its own, on models the package writes itself
"""
