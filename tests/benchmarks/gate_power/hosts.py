"""Simulated hosts: how runs and samples differ where nothing changed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = 10
"""Samples in a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Standard deviations are of logarithms of rates, shares are of samples or sessions."""

    name: str
    about: str
    within: float
    """Between the samples of a block."""
    between: float
    """Between sessions."""
    outliers: float = 0.0
    """Share of the samples that something slowed down."""
    slowest: float = 1.0
    """What is left of an outlier's rate at the least."""
    wander: float = 0.0
    """Between the blocks of a session, beside ``between``; each remembers nine tenths of the one before."""
    slow_start: float = 0.0
    """Share of the sessions whose server happened to start in a slower mode, by 8 %."""


HOSTS = (
    Host(name="quiet", about="1 % within a run, 0.5 % between", within=0.01, between=0.005),
    Host(name="typical", about="3 %, 2 %, outliers", within=0.03, between=0.02, outliers=0.035, slowest=0.5),
    Host(name="run-noise", about="1 %, 4 %: rented GPU", within=0.01, between=0.04),
    Host(name="noisy", about="8 %, 5 %, outliers", within=0.08, between=0.05, outliers=0.10, slowest=0.3),
    Host(
        name="drift",
        about="typical, wanders by 2 %",
        within=0.03,
        between=0.02,
        outliers=0.035,
        slowest=0.5,
        wander=0.02,
    ),
    Host(name="outliers", about="3 %, 2 %, a fifth slowed", within=0.03, between=0.02, outliers=0.20, slowest=0.3),
    Host(name="bimodal", about="1 %, 1 %, every fourth start 8 % slower", within=0.01, between=0.01, slow_start=0.25),
)
MEMORY = 0.9
"""What a block keeps of the wandering of the one a minute before: half an hour later nothing is left of it."""
_FASTEST_OUTLIER = 0.9
_SLOW_MODE = math.log(0.92)


def take_session(host: Host, chance: random.Random, blocks: int) -> list[list[float]]:
    """The rates of so many blocks of one session, around 1."""
    level = chance.gauss(0.0, host.between)
    if host.slow_start and chance.random() < host.slow_start:
        level += _SLOW_MODE
    wander = chance.gauss(0.0, host.wander) if host.wander else 0.0
    taken = []
    for _ in range(blocks):
        taken.append(_take_block(host, chance, level + wander))
        if host.wander:
            wander = MEMORY * wander + chance.gauss(0.0, host.wander * math.sqrt(1 - MEMORY**2))
    return taken


def _take_block(host: Host, chance: random.Random, level: float) -> list[float]:
    return [math.exp(chance.gauss(level, host.within)) * draw_outlier(host, chance) for _ in range(BLOCK)]


def draw_outlier(host: Host, chance: random.Random) -> float:
    """By what a sample is slowed: 1 for most."""
    if not host.outliers or chance.random() >= host.outliers:
        return 1.0
    return chance.uniform(host.slowest, _FASTEST_OUTLIER)


def find_host(name: str, hosts: Sequence[Host] = HOSTS) -> Host:
    """The host of that name."""
    return next(host for host in hosts if host.name == name)
