"""Door 2: ``boobench notify``: what the newest session opened, confirmed or closed, as an issue or a message."""

from __future__ import annotations

import os
from typing import Any

import click

from pytest_boobench.cli import show_examples
from pytest_boobench.cli.parameters import baseline_option, store_option
from pytest_boobench.record import Measurement
from pytest_boobench.reports.alert_post import TOKEN, Receiver, UnsentError, read_receiver, send
from pytest_boobench.reports.alert_steps import AlertReport, find_newest_session, gather_alerts
from pytest_boobench.reports.alert_texts import SHAPES, write_title
from pytest_boobench.reports.text import show_time
from pytest_boobench.store import Selection, Store
from pytest_boobench.units import count


def _read_url(context: click.Context, option: click.Parameter, typed: str | None) -> Receiver | None:
    try:
        return read_receiver(typed, token=os.environ.get(TOKEN)) if typed else None
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


@click.command(
    epilog=show_examples(
        ("boobench notify", "the text of an issue for each change, from the newest session"),
        ("boobench notify --confirmed --as slack", "only what a second session confirmed"),
        ("boobench notify --to https://hooks.example.com/boobench", "send it, as JSON"),
        ("boobench notify --open", "what is open now"),
    )
)
@click.option("--session", metavar="ID", help="Of this pytest session; its first digits will do (default: the newest).")
@click.option(
    "--as",
    "shape",
    type=click.Choice(tuple(SHAPES)),
    help="Whose shape (default: github; with --to what the URL belongs to, else webhook).",
)
@click.option(
    "--to",
    "receiver",
    metavar="URL",
    envvar="BOOBENCH_NOTIFY",
    callback=_read_url,
    help="Send it there instead of printing it. The URL is never printed.",
)
@click.option("--confirmed", is_flag=True, help="Only alerts that a second session confirmed.")
@click.option("--faster", is_flag=True, help="Also what became faster.")
@click.option("--open", "list_open", is_flag=True, help="List the open alerts of all hosts, and send nothing.")
@baseline_option
@store_option
def command(
    *, session: str | None, shape: Any, receiver: Receiver | None, baseline: str, store_url: str, **how: bool
) -> int:
    """Tell what a session changed, one alert for a change.

    An alert opens when cells of a host became slower, or when the host cannot be measured. The next session confirms
    it, and it closes by itself. The same session always gives the same text; a session that changed nothing prints and
    sends nothing.

    Exit code 1 where it could not be sent.
    """
    list_open = how.pop("list_open")
    report = _gather(store_url, session, baseline, everywhere=list_open)
    if list_open:
        _list_open(report)
        return 0
    told = report.list_told(**how)
    if not told:
        still = count(len(report.open), "alert")
        click.echo(f"session {report.session[:8]} opened, confirmed and closed no alert; {still} open", err=True)
        return 0
    if receiver is None:
        click.echo(SHAPES[shape or "github"](told, report.session), nl=False)
        return 0
    receiver = receiver.with_shape(shape)
    try:
        send(receiver, told, report.session)
    except UnsentError as error:
        click.echo(str(error), err=True)
        return 1
    over = sum(one.over for one in told)
    closed = f"; {over} closed since then: no new issue" if over and receiver.keeps_issues else ""
    click.echo(f"sent: {count(len(told), 'alert')} of session {report.session[:8]}{closed}")
    return 0


def _gather(store_url: str, session: str | None, baseline: str, *, everywhere: bool) -> AlertReport:
    with Store.open(store_url, create=False) as store:

        def ask(**wanted: Any) -> list[Measurement]:
            return store.measurements(Selection(**wanted), metrics=("decode_tok_s",))

        if session is None:
            uid = find_newest_session(ask)
        else:
            found = {one.run.session for one in ask(sessions=(session,), last=1)}
            if len(found) > 1:
                raise click.UsageError(f"--session {session}: {len(found)} sessions begin so; type more digits")
            uid = next(iter(found), None)
        if uid is None:
            raise click.UsageError(f"{store.address}: no such session; boobench history shows them")
        return gather_alerts(ask, uid, baseline, everywhere=everywhere)


def _list_open(report: AlertReport) -> None:
    for alert in report.open:
        click.echo(f"{alert.uid}  {alert.state}  {write_title(alert)}; since {show_time(alert.opened_at)}")
    if not report.open:
        click.echo(f"no alert is open as of session {report.session[:8]}", err=True)
