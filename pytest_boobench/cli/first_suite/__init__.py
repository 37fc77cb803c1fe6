"""Door 2: what ``boobench init`` writes, in the order it comes about.

- ``discovery``   a server and the models that a first suite is for
- ``probe``       how fast a loaded model is, roughly; only where somebody asks for it
- ``sizes``       prompts and outputs that fit the context and take long enough to be judged
- ``texts``       the files, with comments that teach
"""
