"""What ``--boobench`` switches on: collecting and measuring in every process, recording in the one that reports."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from pytest_boobench.errors import BoobenchError
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.plugin import BENCH, benchmark
from pytest_boobench.plugin.bench import Bench
from pytest_boobench.plugin.collect import Collection
from pytest_boobench.plugin.judging import ScheduledPass, SecondPass
from pytest_boobench.plugin.ordering import Ready, ask_hosts
from pytest_boobench.plugin.settings import Settings, read_inventory, resolve
from pytest_boobench.plugin.workers import TOLD_BY_REFERENCES, BenchPlace, Leases, Workers
from pytest_boobench.untrusted import hide_secrets, learn_likely_keys


def activate(config: pytest.Config) -> None:
    """Register the plugin's parts; UsageError for bad options and a bad hosts file."""
    try:
        settings = resolve(config)
        inventory = read_inventory(config, settings)
        if settings.duet is not None:
            inventory.get(settings.duet)
    except (BoobenchError, pytest.UsageError) as error:
        learn_likely_keys(str(error))
        raise pytest.UsageError(hide_secrets(str(error))) from error
    worker: dict[str, object] | None = getattr(config, "workerinput", None)
    manager = config.pluginmanager
    ready: Ready = partial(ask_hosts, inventory) if worker is None else lambda _: {}
    manager.register(Collection(config, settings, inventory, ready), "boobench-collection")
    benchmark.register(config)
    if worker is None:
        _report_here(config, settings, inventory)
    else:
        place = BenchPlace.of_worker(worker, partial(_hand_over, config))
        bench = Bench(config, settings, inventory, place)
        manager.register(bench, BENCH)
        manager.register(ScheduledPass(bench.judging.doubts), "boobench-second-pass")


def _hand_over(config: pytest.Config, told: Mapping[str, Any]) -> None:
    """In a worker: put what a machine's reference said to what the worker hands over at its end."""
    config.workeroutput.setdefault(TOLD_BY_REFERENCES, []).append(told)  # type: ignore[attr-defined]


def _report_here(config: pytest.Config, settings: Settings, inventory: Inventory) -> None:
    """Register the reporting side: store, reports, leases, and what xdist's controller hands out."""
    from pytest_boobench.plugin import live
    from pytest_boobench.plugin.outputs import Outputs
    from pytest_boobench.plugin.recorder import Recorder
    from pytest_boobench.plugin.signals import Signals

    manager = config.pluginmanager
    manager.register(Signals(), "boobench-signals")
    live.register(config, settings)
    recorder = Recorder(config, settings, session_uid=uuid.uuid4().hex)
    manager.register(recorder, "boobench-recorder")
    manager.register(Outputs(config, settings, recorder), "boobench-outputs")
    if settings.notify_url is not None:
        from pytest_boobench.plugin import notifying

        notifying.register(config, settings.notify_url, settings.baseline, recorder)
    place = BenchPlace(recorder.session_uid, "main", recorder.client, recorder.baselines, recorder.take_reference)
    bench = Bench(config, settings, inventory, place)
    manager.register(bench, BENCH)
    second_pass = SecondPass(bench.judging.doubts, lambda host: inventory.get(host).exclusive)
    manager.register(second_pass, "boobench-second-pass")
    leases = None
    if settings.store_url is not None:  # nobody else uses the default store: there the lock on the machine is enough
        leases = Leases(recorder, inventory, wait_s=settings.wait_s)
        manager.register(leases, "boobench-leases")
    if manager.hasplugin("xdist"):
        ready = partial(ask_hosts, inventory)
        manager.register(Workers(recorder, settings, inventory, ready=ready, leases=leases), "boobench-workers")
