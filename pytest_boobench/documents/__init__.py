"""Room 0: a YAML file -> checked values, with every problem of the file at once and on its line.

In the order a file walks: ``yaml_source`` reads the bytes and refuses what is no YAML for us, ``yaml_tree`` makes Nodes
of it, which know their lines and paths, and ``validation`` reads them into pydantic models and gives the JSON Schema.
"""
