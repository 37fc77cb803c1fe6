"""pytest-boobench: LLM throughput as pytest tests.

The house, in the order the data walks; every import looks back along it:

- ``untrusted``   JSON and text from outside: plain values or a named fault, never a key or a control character
- ``errors``, ``units``, ``metrics``, ``facts``   the words: trouble, numbers as text, what is measured and on what
- ``arrivals``    how the events of a stream arrive: tokens in each, bursts
- ``usual``       names and limits that hold where a user says nothing
- ``ci``          what a CI system says of its job
- ``documents``   YAML text -> plain data that remembers its lines
- ``suite``       a suite file -> Suite -> Grid -> Cells
- ``wire``        the socket: requests out, bytes back with the kernel's clock on them
- ``servers``     one file per kind of server: what to send it, how to read its answers
- ``hosts``       which servers there are, leave to use one, the embedded llama.cpp
- ``measure``     warm-up, lanes, samples
- ``aggregate``   samples -> Aggregates
- ``record``      the finished facts of one cell, as they travel and are stored
- ``baseline_file``   a baseline as text, for git
- ``store``       the database
- ``blocks``      a block of a cell: requests, warm-up, samples, pairs of a duet
- ``gate``        now against the baseline -> Verdicts
- ``changes``     where the course of a cell changed
- ``walk``        the corridor: one cell through all of it; read this first
- ``reports``     what people and CI systems see
- ``plugin``      door 1: all that knows pytest
- ``cli``         door 2: the command ``boobench``

This module imports nothing: naming the package must cost nothing.
"""
