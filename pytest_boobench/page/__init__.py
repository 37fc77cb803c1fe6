"""Door 3: a local page that starts pytest as a child and reads the store, as any user does. Nothing imports it.

- ``command``       ``boobench page``: the address, the socket, the end with the terminal
- ``guard``         who may ask: Host, origin, header, body, cookie
- ``app``           the routes: from an address to an answer; ``streams`` those that go on
- ``bodies``        what may be asked; ``api_types`` what is answered; ``api_schema`` both as JSON Schema
- ``desk``          the project that the page is about: its files, hosts and store
- ``suite_tree``    the cells, by a real collection, each with its last result
- ``run_book``      runs: child processes, their files, one run at a time a machine; ``run_file`` one run's files and
  events; ``run_keeper`` the process around a child
- ``past``          courses, sessions, comparisons, baselines
- ``host_states``   hosts and models as they are now
- ``talk``          one exchange with a model by the wire of a measurement; ``duel`` the same prompt on several
"""
