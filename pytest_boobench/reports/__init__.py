"""Room 7: what people and CI systems see, one renderer per file. They get finished facts and give back text.

- ``sentences``   verdicts and failures in words; the first line is the finding
- ``terminal``    the table after the run
- ``junit``       properties of test cases and of the suite
- ``rows``        one finished cell, as the reports are handed it
"""
