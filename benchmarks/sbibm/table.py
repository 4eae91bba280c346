"""Prints the results beside published means, as a table in Markdown.

    python -m benchmarks.sbibm.table PUBLISHED.csv

PUBLISHED.csv has columns task, simulations, algorithm, mean_c2st: means over the ten
observations in the results that the benchmark's authors published.
"""

import csv
import json
import sys
from collections import defaultdict

import numpy as np

from benchmarks.sbibm.__main__ import RESULTS

BESIDE = {"npe": "NPE", "nle": "NLE", "tsnpe": "SNPE", "snle": "SNLE"}


def main():
    with open(sys.argv[1]) as file:
        published = {
            (row["task"], row["simulations"], row["algorithm"]): row["mean_c2st"]
            for row in csv.DictReader(file)
        }
    by_method = defaultdict(list)
    for key, run in json.loads(RESULTS.read_text())["runs"].items():
        task, simulations, method, draws = key.split("/")
        beside = published[task, simulations, BESIDE[method]]
        values = list(run["c2st"].values())
        seconds = sum(run["cpu_seconds"].values())
        by_method[method].append(
            f"| {task} | {int(simulations):,} | {np.mean(values):.3f} | "
            f"{float(beside):.3f} | {len(values)} | {int(draws):,} | {seconds:.0f} |"
        )
    for method, lines in by_method.items():
        print(
            f"\n| task | simulations | {method} | published {BESIDE[method]} |"
            " observations | draws | CPU seconds |"
        )
        print("|---|---|---|---|---|---|---|")
        print("\n".join(lines))


if __name__ == "__main__":
    main()
