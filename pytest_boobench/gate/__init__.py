"""Room 6: now against the baseline -> Verdicts. Arithmetic only: no I/O, no clock, no chance.

The rule: a cell fails when the median of a gated metric is worse than the baseline's by more than what is allowed
(10 % where nobody says otherwise). A gate that cries wolf is switched off, so it also has to be believed: two keys, a
noise floor, and a third verdict where an unchanged server could have given the same numbers.

- ``rules``          what is allowed, and how far to go to find out
- ``sessions``       a baseline's runs as looks at the host
- ``reference``      what a baseline says: its level, and the noise between looks
- ``comparison``     one metric now, against that: gains, limit, noise
- ``circumstances``  what else is different: model, processor, engine build, the machine's own speed
- ``doubts``         why a worse number is not believed, in words
- ``verdicts``       all of it together: `judge`, `find_doubts`
- ``duet``           the same for two live hosts in turns
- ``power``          what a baseline can prove

All but the duet is judged from aggregates: a verdict can be recomputed from the store when raw samples are long gone.
"""

from pytest_boobench.gate.comparison import MAX_DROP, Rules, limits
from pytest_boobench.gate.duet import find_duet_doubts, judge_duet
from pytest_boobench.gate.power import provable_drop, remedy
from pytest_boobench.gate.reference import level, looks, measure_spread
from pytest_boobench.gate.verdicts import find_doubts, judge

__all__ = [
    "MAX_DROP",
    "Rules",
    "find_doubts",
    "find_duet_doubts",
    "judge",
    "judge_duet",
    "level",
    "limits",
    "looks",
    "measure_spread",
    "provable_drop",
    "remedy",
]
