"""How often the gate cries wolf, and what it finds: ``python -m tests.benchmarks.gate_power``.

- ``hosts``      simulated hosts: how runs and samples differ where nothing changed
- ``cells``      samples -> baselines and records as the gate is given them; one cell played to its verdict
- ``others``     what other gates would say of the same samples
- ``campaign``   thousands of suites of unchanged and slowed cells, counted
- ``duets``      pairs on two hosts that share a machine
- ``replay``     recordings of the real embedded server in place of simulated hosts
- ``tables``     the counts as Markdown

The gate is the real one: baselines, records and verdicts are the package's own objects. Seeded; standard library only.
"""
