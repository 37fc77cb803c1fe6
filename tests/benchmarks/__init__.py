"""Benchmarks, run by hand; nothing here is asserted.

- ``collecting``    10,000 cells beside 10,000 plain cases; ``python -m tests.benchmarks.collecting``
- ``parallel``      40 cells on four hosts at once; ``python -m tests.benchmarks.parallel``
- ``watching``      what watching costs a host; ``python -m tests.benchmarks.watching``
- ``store``         how long a full store takes to answer; ``python -m tests.benchmarks.store``
- ``gate_power``    how often the gate cries wolf and what it finds; ``python -m tests.benchmarks.gate_power``
- ``ab``            how far the interval of a duet can be trusted; ``python -m tests.benchmarks.ab``
- ``depth``         beside ``llama-bench -d``; ``python -m tests.benchmarks.depth --server PATH --bench PATH``
- ``quality``       the divergence of unchanged and changed models; ``python -m tests.benchmarks.quality``
- ``recordings``    samples of the real embedded server for it; ``python -m tests.benchmarks.recordings NAME``

How true the clocks are: a server whose every send is known, and clients that are asked what they saw.

- ``schedule``      when a stream's events are due, and the bytes that they are
- ``truth``         the server that keeps that schedule; ``python -m tests.benchmarks.truth``
- ``clients``       those that read its streams, each as it is usually written
- ``traces``        what a client saw beside what was sent -> errors
- ``stage``         processes of all of them, environments of their own, two CPU hogs
- ``peers``         the command lines of other tools
- ``fidelity``      the comparison; ``python -m tests.benchmarks.fidelity``
- ``session``       a pytest session on the embedded server; ``python -m tests.benchmarks.session``
"""
