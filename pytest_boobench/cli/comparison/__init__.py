"""Door 2: what ``boobench compare`` does, in the order it does it.

- ``sides``    a word -> the stored measurements it names
- ``past``     a stored measurement as the gate takes it: as a cell that was just measured, or as part of a baseline
- ``pairs``    the same cell on both sides, judged
- ``render``   the table, the summary, JSON
"""
