"""Door 2: what ``boobench doctor`` looks at, one kind of trouble per file.

- ``finding``     one line of the diagnosis
- ``installed``   python, packages, extras, plugins that clash
- ``machine``     load, clock, CI
- ``places``      hosts file, suites' keys, store, cache, what waits to be taken in
- ``reach``       hosts, where somebody asks for them
"""
