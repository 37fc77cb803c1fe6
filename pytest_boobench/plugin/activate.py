"""What ``--boobench`` switches on: collecting and measuring in every process, recording in the one that reports."""

from __future__ import annotations

import uuid

import pytest

from pytest_boobench.errors import BoobenchError
from pytest_boobench.plugin import options
from pytest_boobench.plugin.bench import Bench
from pytest_boobench.plugin.collect import Collection
from pytest_boobench.plugin.inventory import read_inventory


def activate(config: pytest.Config) -> None:
    """Register the plugin's parts. Bad options and hosts files end the session here, with their own words."""
    settings = options.resolve(config)
    try:
        inventory = read_inventory(config, settings)
    except BoobenchError as error:
        raise pytest.UsageError(str(error)) from error
    manager = config.pluginmanager
    manager.register(Collection(config, settings, inventory), "boobench-collection")
    worker: dict[str, object] | None = getattr(config, "workerinput", None)
    if worker is None:
        from pytest_boobench.plugin.recorder import Recorder

        recorder = Recorder(config, settings, session_uid=uuid.uuid4().hex)
        manager.register(recorder, "boobench-recorder")
        manager.register(Bench.reporting_here(config, settings, inventory, recorder), "boobench-bench")
        if manager.hasplugin("xdist"):
            from pytest_boobench.plugin.workers import Workers

            manager.register(Workers(recorder), "boobench-workers")
    else:
        manager.register(Bench.of_worker(config, settings, inventory, worker), "boobench-bench")
