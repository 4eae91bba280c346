"""Whether simulators make data like the observations: `python -m ... FOLDER`.

Reference draws of the posterior are simulated; if the simulator is the one that made
the observation, the observation's rank among those data is uniform, in each value.
Prints the Kolmogorov-Smirnov p-value over all observations and values of a task.
"""

import sys

import numpy as np
from scipy import stats

from benchmarks.sbibm.tasks import TASKS


def ranks(task, number, draws=2000):
    """Returns where an observation lies among simulated data, `[k]` in 0..1."""
    theta = task.reference(number)[:draws]
    data, seen = task.data(theta, number), task.observed(number)
    ties = np.random.default_rng(number).random(seen.shape)
    return (data < seen).mean(0) + ties * (data == seen).mean(0)


def main():
    for name, make in TASKS.items():
        task = make(sys.argv[1])
        where = np.stack([ranks(task, number) for number in range(1, 11)])
        p = [stats.kstest(column, "uniform").pvalue for column in where.T]
        print(f"{name}: least of {len(p)} p-values {min(p):.3f}")


if __name__ == "__main__":
    main()
