"""Room 5: the store: the database of all measurements, and the only place that knows SQL.

- ``tables``        today's schema; its columns follow from the facts
- ``column_types``  which values may enter the database, and how they come back
- ``engine``        a URL or path -> an engine on a store that is ready
- ``revisions``     transactions, schema versions and upgrades
- ``migrations``    how each released schema became the next one
- ``writes``        runs, cells with their samples and aggregates, verdicts, leases
- ``reads``         rows -> the package's values
- ``selection``     which measurements are wanted
- ``baselines``     what is in force under which name
- ``later_runs``    measurements after a baseline that were as good
- ``replay``, ``spool``   what a store could not take: kept as lines in files, inserted later
- ``votes``         votes on answers of models
- ``prune``         deletes old raw samples
- ``database_errors``   database errors in words that a user can act on
- ``facade``        Store: the interface for the rest of the package
"""

from pytest_boobench.store.baselines import BaselineChange, BaselineName, BaselineSave, PastSave, Saved
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
    "PastSave",
    "Saved",
    "Selection",
    "Store",
    "StoredRun",
    "default_url",
]
