"""Room 5: the store, the database of all that was measured, and the only place that knows SQL.

- ``tables``        the schema, as it is today; its columns follow from the facts
- ``column_types``  what may reach the database, and in which form it comes back
- ``engine``        a URL or path -> an engine on a store that is ready
- ``revisions``     the transactions there are; the age of a schema, and the way to today's
- ``migrations``    how each released schema became the next one
- ``writes``        runs, cells with their samples and aggregates, verdicts, leases
- ``reads``         rows -> the house's values
- ``selection``     which measurements are wanted
- ``baselines``     what is in force under which name
- ``later_runs``    what came after a baseline and was as good
- ``replay``, ``spool``   what a store did not take, as lines and as files, and its way in after all
- ``prune``         drops old raw samples
- ``database_errors``   the database's errors in words a user can act on
- ``facade``        Store, the whole of it for the rest of the house
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
