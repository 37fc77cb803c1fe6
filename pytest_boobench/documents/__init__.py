"""Room 0: a YAML file -> checked values, with every problem of the file at once and on its line.

In the order a file walks: ``source`` reads the bytes and refuses what is no YAML for us, ``core`` says what a scalar
means, ``tree`` makes Nodes of it, ``node`` is one value that knows its line and path, ``problems`` collects what is
wrong, ``scalars`` and ``tables`` are the shapes a file is read with. A shape reads what it can and notes the rest, so
that checks across fields still run on a file with mistakes in it; it also gives the JSON Schema of what it reads.
"""
