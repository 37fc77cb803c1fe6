"""How true the clocks are, measured: a server whose every send is known, and clients that are asked what they saw.

- ``schedule``      when a stream's events are due, and the bytes that they are
- ``truth``         the server that keeps that schedule; ``python -m tests.benchmarks.truth``
- ``clients``       those that read its streams, each as it is usually written
- ``traces``        what a client saw beside what was sent -> errors
- ``stage``         processes of all of them, environments of their own, two CPU hogs
- ``peers``         the command lines of other tools
- ``fidelity``      the comparison; ``python -m tests.benchmarks.fidelity``
- ``session``       a pytest session on the embedded server; ``python -m tests.benchmarks.session``
"""
