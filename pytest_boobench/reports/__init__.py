"""Room 7: what people and CI systems see, one renderer per file. They get finished facts and give back text.

- ``sentences``   verdicts and failures in words; the first line is the finding
- ``terminal``    the table after the run
- ``advice``      what the numbers themselves are worth
- ``junit``       properties of test cases and of the suite
- ``html``        the page: verdicts, courses, samples, hosts side by side
- ``markdown``    the summary for step summaries and merge requests, with ``escaping``
- ``openmetrics`` the numbers for GitLab's metrics report
- ``session_json``   all of the session as one JSON document
- ``tables``      columns of plain text; ``plain`` is data that is JSON by the standard
- ``rows``        one finished cell, as the reports are handed it
- ``session``     all cells of a session, and what became of each in a word
"""
