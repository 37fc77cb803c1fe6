"""Room 7: what people and CI systems see, one renderer per file. They get finished facts and give back text.

- ``session``       all cells of a session, and what became of each
- ``sentences``     verdicts, failures and notes on one cell in words
- ``terminal``      the table after the run
- ``advice``        the lines below the table
- ``junit``         properties of test cases and of the suite
- ``html``          the page: verdicts, history, samples, hosts side by side
- ``markdown``      the summary for step summaries and merge requests
- ``openmetrics``   the numbers for GitLab's metrics report
- ``session_json``  all of the session as one JSON document
- ``text``          text from outside made safe for each of these; tables in plain text
"""
