"""Room 5: the store, the database of all that was measured, and the only place that knows SQL.

- ``columns``     what may reach the database, and in which form it comes back
- ``tables``      the schema, as it is today
- ``transactions``  to read, to write, to change the schema
- ``migrations``  how each released schema became the next one
- ``schema``      which of them a database has, and the way to today's
- ``trouble``     the database's errors in words a user can act on
- ``open``        a URL or path -> an engine on a store that is ready
- ``record``      writes: runs, cells with their samples and aggregates, verdicts
- ``values``      rows -> the house's values
- ``baselines``   saves and reads baselines
- ``later``       what came after a baseline and was as good
- ``selection``   which measurements are wanted
- ``history``     reads them, and their runs
- ``saves``       what is in force, put there and taken out by hand
- ``entry``, ``spool``   what a store did not take, as a line and as a file
- ``intake``      takes it in after all
- ``prune``       drops old raw samples
- ``holders``     who has a file locked
- ``rows``        rows that several runners may make at the same time
- ``leases``      which session has which host, in a store that machines share
- ``store``       Store, the whole of it for the rest of the house
"""

from pytest_boobench.store.baselines import BaselineChange, BaselineName, BaselineSave, Saved
from pytest_boobench.store.engine import default_url
from pytest_boobench.store.facade import Store
from pytest_boobench.store.reads import StoredRun
from pytest_boobench.store.selection import Selection
from pytest_boobench.store.writes import LEASE_S, Lease

__all__ = [
    "LEASE_S",
    "BaselineChange",
    "BaselineName",
    "BaselineSave",
    "Lease",
    "Saved",
    "Selection",
    "Store",
    "StoredRun",
    "default_url",
]
