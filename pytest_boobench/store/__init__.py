"""Room 5: the store, the database of all that was measured, and the only place that knows SQL.

- ``columns``     what may reach the database, and in which form it comes back
- ``tables``      the schema, as it is today
- ``transactions``  to read, to write, to change the schema
- ``migrations``  how each released schema became the next one
- ``schema``      which of them a database has, and the way to today's
- ``trouble``     the database's errors in words a user can act on
- ``open``        a URL or path -> an engine on a store that is ready
- ``record``      writes: runs, cells with their samples and aggregates, verdicts
- ``baselines``   saves and reads baselines
- ``rows``        rows that several runners may make at the same time
- ``leases``      which session has which host, in a store that machines share
- ``store``       Store, the whole of it for the rest of the house
"""

from pytest_boobench.store.baselines import BaselineSave
from pytest_boobench.store.leases import LEASE_S, Lease
from pytest_boobench.store.open import default_url
from pytest_boobench.store.store import Store

__all__ = ["LEASE_S", "BaselineSave", "Lease", "Store", "default_url"]
