"""The session's HTML page: its cells with their history, from the store."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_boobench.errors import MissingExtra
from pytest_boobench.plugin.recorder import Recorder
from pytest_boobench.record import Measurement
from pytest_boobench.reports import html
from pytest_boobench.reports.session import Unmeasured

if TYPE_CHECKING:
    from pytest_boobench.store import Store


def require_page() -> None:
    """UsageError where the page could not be made, before anything is measured."""
    try:
        html.require_template_engine()
    except MissingExtra as error:
        raise pytest.UsageError(f"--boobench-report: {error}") from error


def render_page(recorder: Recorder, unmeasured: Sequence[Unmeasured]) -> str:
    """The page of the session's cells: what it measured with what was before, and what it did not come to measure.

    StoreError where the cells can't be read.
    """
    history = replace(_gather(recorder), unmeasured=unmeasured)
    return html.render(history, made_at=time.time())


def _gather(recorder: Recorder) -> html.History:
    cell_keys = {row.record.cell_key for row in recorder.rows}
    if not cell_keys:
        return html.History(measurements=())
    with recorder.open_store() as store:
        return _gather_from(store, recorder.session_uid, cell_keys)


def _gather_from(store: Store, session_uid: str, cell_keys: Collection[str]) -> html.History:
    from pytest_boobench.store import Selection

    def ask(*, last: int | None = None, baselines: Collection[str] = ()) -> Sequence[Measurement]:
        return store.measurements(Selection(cell_keys=cell_keys, last=last, baselines=baselines))

    return html.gather(ask, store.samples, store=store.address, session=session_uid)
