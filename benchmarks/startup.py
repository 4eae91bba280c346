"""Times what starts: importing the package above what it stands on, and `--help`.

    python -m benchmarks.startup

Each time is that of a process of its own; they take turns, and medians are printed.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.default_runs import machine

RESULTS = Path(__file__).parent / "results" / "startup.json"
KINDS = {
    "import keras, tensorflow_probability": (
        "import keras, tensorflow_probability as tfp;"
        "tfp.bijectors.Chain, tfp.distributions.Normal"
    ),
    "import tfp_flows": "import tfp_flows",
    # As the command starts: the package looks at its name.
    "tfp-flows --help": (
        "import sys; sys.argv = ['tfp-flows', '--help'];"
        "from tfp_flows.cli import main; main()"
    ),
}
ROUNDS = 7


def seconds(code: str) -> float:
    """Runs a program in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    return time.perf_counter() - start


def main() -> None:
    """Times in turns, prints, writes."""
    times = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind, code in KINDS.items():
            times[kind].append(seconds(code))
    found = {kind: round(statistics.median(t), 2) for kind, t in times.items()}
    for kind, median in found.items():
        print(f"{median:6.2f} s  {kind}")
    RESULTS.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
