"""Room 6: now against the baseline -> Verdicts. Arithmetic only: no I/O, no clock, no chance.

The rule: a cell fails when the median of a gated metric is worse than the baseline's by more than what is allowed
(10 % where nobody says otherwise). A gate that cries wolf is switched off, so it also has to be believed: two keys, a
noise floor, and a third verdict where an unchanged server could have given the same numbers.

- ``reference``      what a baseline says: its runs as looks at the host, its level, the noise between looks
- ``comparison``     what is allowed; one metric now, against the baseline: gains, limit, noise
- ``circumstances``  what else is different: model, processor, engine build, the machine's own speed
- ``power``          why a worse number is not believed, in words; what a baseline can prove
- ``verdicts``       all of it together: `judge_cell`, `find_cell_doubts`
- ``duet``           the same for two live hosts in turns
- ``change_points``  where the history of a cell changed

All but the duet is judged from aggregates: a verdict can be recomputed from the store when raw samples are long gone.
"""

from pytest_boobench.gate.comparison import MAX_DROP, Rules, limits
from pytest_boobench.gate.duet import find_duet_doubts, judge_duet
from pytest_boobench.gate.power import provable_drop, remedy
from pytest_boobench.gate.reference import level, looks, measure_spread
from pytest_boobench.gate.verdicts import find_cell_doubts, find_doubts, judge, judge_cell

__all__ = [
    "MAX_DROP",
    "Rules",
    "find_cell_doubts",
    "find_doubts",
    "find_duet_doubts",
    "judge",
    "judge_cell",
    "judge_duet",
    "level",
    "limits",
    "looks",
    "measure_spread",
    "provable_drop",
    "remedy",
]
