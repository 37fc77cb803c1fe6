"""Room 0: a YAML file -> validated values. Reports all problems of a file at once, each with its line.

In order: ``yaml_source`` reads the bytes and rejects files that are not valid YAML here. ``yaml_tree`` makes Nodes,
which know their lines and paths. ``validation`` parses Nodes into pydantic models and writes the JSON Schema.
"""
