"""Door 2: ``boobench baseline measure``: a baseline of several sessions, hours apart, without anybody there."""

from __future__ import annotations

import time
from dataclasses import replace

import click

from pytest_boobench.cli import INTERRUPTED, WRONG_USE, show_examples
from pytest_boobench.cli.measured_sessions import (
    OURS,
    Attempt,
    DoneSessions,
    SessionPlan,
    attempt,
    describe_flaws,
    describe_progress,
    find_done,
    put_in_force,
)
from pytest_boobench.cli.parameters import baseline_option, read_duration, store_option
from pytest_boobench.record import APART_S
from pytest_boobench.store import Store
from pytest_boobench.units import count, moment, span

ATTEMPTS = 3
"""Of a session, before what it measured is taken as it is."""
_RETRY_S = 600.0
"""From the end of a session that failed to its next attempt, or ``--every`` if that is shorter."""
_REASON = "boobench baseline measure"


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog=show_examples(
        ("boobench baseline measure suites/", "five sessions, one an hour"),
        ("boobench baseline measure --sessions 3 --every 8h --reason 'driver 580' suites/", "a new one, over a day"),
        ("boobench baseline measure --once suites/", "at most one session, for a timer"),
    ),
)
@click.option("--sessions", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="How many.")
@click.option(
    "--every",
    "every_s",
    default="1h",
    show_default=True,
    callback=read_duration,
    metavar="TIME",
    help="From the start of a session to the start of the next.",
)
@click.option(
    "--reason",
    default=_REASON,
    show_default=True,
    metavar="TEXT",
    help="Why; stored with the baseline. Another reason begins anew.",
)
@click.option("--once", is_flag=True, help="Measure one session if it is time for it, and end.")
@baseline_option
@store_option
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def measure(*, once: bool, pytest_args: tuple[str, ...], **typed: object) -> int:
    """Measure a baseline over hours, with PYTEST_ARGS for each session.

    Its first session replaces the baseline of its cells, and each further one is added. Run the same command again
    after an interruption: it goes on. A session with a flaw is tried again, and nothing of it comes into force before.

    Exit code 0 where all sessions are there (with --once: where nothing failed), 1 where one failed three times, 2 for
    wrong use.
    """
    for option in OURS:
        if any(word.partition("=")[0] == option for word in pytest_args):
            raise click.UsageError(f"{option}: leave it out; this verb has --store and --baseline, and saves by itself")
    plan = SessionPlan(arguments=pytest_args, **typed)  # type: ignore[arg-type]  # click's values
    if plan.every_s < APART_S and plan.sessions > 1:
        click.echo(f"sessions less than {span(APART_S)} apart count as one; expected --every 30m or more", err=True)
    try:
        return _go_on(plan, once=once)
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on", err=True)
        return INTERRUPTED


def _go_on(plan: SessionPlan, *, once: bool) -> int:
    while True:
        with Store.open(plan.store_url) as store:
            done = find_done(store, plan)
        if len(done.began_at) >= plan.sessions:
            click.echo(f"baseline {plan.baseline}: {count(len(done.began_at), 'session')} in force; another --reason "
                       "begins anew")  # fmt: skip
            return 0
        due_at = done.began_at[-1] + plan.every_s if done.began_at else 0.0
        if due_at > time.time():
            click.echo(f"next session at {moment(due_at)} UTC, {len(done.began_at) + 1} of {plan.sessions}")
            if once:
                return 0
            time.sleep(due_at - time.time())
        if code := _measure_one(plan, done):
            return code
        if once:
            return 0


def _measure_one(plan: SessionPlan, done: DoneSessions) -> int:
    """One session with its attempts; the exit code if there is no point in going on, else 0."""
    number = len(done.began_at) + 1
    named = f"session {number} of {plan.sessions}"
    for tried in range(1, ATTEMPTS + 1):
        found = attempt(plan)
        if found.hopeless:
            click.echo(f"{named}: pytest found nothing to measure, or an option is wrong; see above", err=True)
            return WRONG_USE
        if not found.flaws:
            _take(plan, named, number, found, done)
            return 0
        click.echo(f"{named}, attempt {tried} of {ATTEMPTS}: {describe_flaws(found.flaws)}", err=True)
        if tried < ATTEMPTS:
            time.sleep(min(_RETRY_S, plan.every_s))
    if not found.clean:
        click.echo(f"{named}: nothing could be measured; the same command goes on here", err=True)
        return 1
    click.echo(f"{named}: only the cells without a flaw are added", err=True)
    _take(plan, named, number, replace(found, flaws=()), done)
    return 0


def _take(plan: SessionPlan, named: str, number: int, found: Attempt, done: DoneSessions) -> None:
    put_in_force(plan, number, found.clean, done)
    with Store.open(plan.store_url, create=False) as store:
        lines = describe_progress(store, plan, found.clean)
    click.echo(f"{named} ({(found.session or '')[:8]}) in force as baseline {plan.baseline}")
    for line in lines:
        click.echo(f"  {line}")
