"""The session's HTML page: its cells with their history, from the store."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_boobench.errors import MissingExtra
from pytest_boobench.plugin.recorder import Recorder
from pytest_boobench.record import Measurement
from pytest_boobench.reports import html

if TYPE_CHECKING:
    from pytest_boobench.store import Store


def require_page() -> None:
    """UsageError where the page could not be made, before anything is measured."""
    try:
        html.require_template_engine()
    except MissingExtra as error:
        raise pytest.UsageError(f"--boobench-report: {error}") from error


def render_page(recorder: Recorder) -> str:
    """The page of the cells that the session measured, up to what it measured. StoreError where they can't be read."""
    cell_keys = {row.record.cell_key for row in recorder.rows}
    if not cell_keys:
        return html.render(html.History(measurements=()), made_at=time.time())
    with recorder.open_store() as store:
        history = _gather(store, recorder.session_uid, cell_keys)
    return html.render(history, made_at=time.time())


def _gather(store: Store, session_uid: str, cell_keys: Collection[str]) -> html.History:
    from pytest_boobench.store import Selection

    def ask(*, last: int | None = None, baselines: Collection[str] = ()) -> Sequence[Measurement]:
        return store.measurements(Selection(cell_keys=cell_keys, last=last, baselines=baselines))

    return html.gather(ask, store.samples, store=store.address, session=session_uid)
