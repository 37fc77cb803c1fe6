"""Room 6: a measurement against the baseline -> Verdicts. Arithmetic only: no I/O, no clock, no randomness.

A cell fails when the median of a gated metric is worse than the baseline's by more than is allowed (default: 10 %).
Users switch off a gate with false alarms. So the fastest tenth must be worse too, and by more than the noise. If an
unchanged server could have given the same numbers, the verdict is inconclusive.

- ``reference``      the baseline's sessions, its level, the noise between sessions
- ``host_noise``     how much the sessions of an unchanged host differ, learnt from all that it measured
- ``comparison``     the allowed change, and one metric against the baseline: gains, limit, noise
- ``circumstances``  what else is different: model, processor, engine build, the machine's own speed
- ``host_drift``     the host's drift, by the reference of its machine: divided out of the baseline
- ``flags``          the flags that differ in two command lines
- ``power``          explains why a worse number is no regression; what a baseline can prove
- ``verdicts``       combines all of this: `judge_cell`, `find_cell_doubts`
- ``causes``         what the red cells of a host have in common, and the others do not
- ``decode_cause``   whether a slower decode is slower steps, or fewer accepted drafts
- ``divergence``     whether the model's probabilities are still those of the baseline
- ``gains``          the pairs of two live hosts, and the interval of the true gain
- ``turn_ratios``    limits inside one measurement: one turn against another
- ``floors``         a share of the requests against the least that is asked
- ``drift``          the slope of a course, with its interval
- ``duet``           the same verdicts for two live hosts in turns
- ``alerts``         the verdicts of a host's sessions as alerts: opened, confirmed, closed
- ``change_points``  where the history of a cell changed

All except the duet work on aggregates: a verdict can be recomputed from the store after the samples are pruned.
"""

from pytest_boobench.gate.causes import JudgedCell, explain_red, find_cause
from pytest_boobench.gate.circumstances import describe_sameness, list_differences
from pytest_boobench.gate.comparison import MAX_DROP, Rules, limits
from pytest_boobench.gate.duet import find_duet_doubts, is_wider, judge_duet
from pytest_boobench.gate.gains import FEWEST, LOOKS
from pytest_boobench.gate.host_drift import SuiteNoise, divide_out
from pytest_boobench.gate.host_noise import add_noise, learn_noise, measure_hosts
from pytest_boobench.gate.power import provable_drop, remedy
from pytest_boobench.gate.reference import group_sessions, level, measure_spread
from pytest_boobench.gate.verdicts import find_cell_doubts, find_doubts, judge, judge_cell

__all__ = [
    "FEWEST",
    "LOOKS",
    "MAX_DROP",
    "JudgedCell",
    "Rules",
    "SuiteNoise",
    "add_noise",
    "describe_sameness",
    "divide_out",
    "explain_red",
    "find_cause",
    "find_cell_doubts",
    "find_doubts",
    "find_duet_doubts",
    "group_sessions",
    "is_wider",
    "judge",
    "judge_cell",
    "judge_duet",
    "learn_noise",
    "level",
    "limits",
    "list_differences",
    "measure_hosts",
    "measure_spread",
    "provable_drop",
    "remedy",
]
