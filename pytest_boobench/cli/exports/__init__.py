"""Door 2: what ``boobench export`` writes.

- ``rows``         measurements and samples as flat or nested rows, their fields always in the same order
- ``write``        rows -> JSON lines or CSV
- ``normalized``   measurements in the form that inference-doctor reads, for a second opinion
"""
