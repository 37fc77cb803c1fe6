"""Door 2: a server that loads its model is waited for, and whoever typed the command hears of it."""

from __future__ import annotations

import click

from pytest_boobench.servers.patience import Patience, Waiting

_EVERY_S = 10.0


def make_patience(load_timeout_s: float) -> Patience:
    """What ``--load-timeout`` grants; a line on stderr at once, and every ten seconds, for each host."""
    told_s: dict[str, float] = {}

    def tell(waiting: Waiting) -> None:
        last_s = told_s.get(waiting.host)
        if last_s is None or not last_s <= waiting.waited_s < last_s + _EVERY_S:
            told_s[waiting.host] = waiting.waited_s
            click.echo(str(waiting), err=True)

    return Patience(load_s=load_timeout_s, option="--load-timeout", tell=tell)
