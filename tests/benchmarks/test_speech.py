"""The benchmark of speech: what it scores, and the table it prints."""

import io

import numpy as np
import pytest
from rich.console import Console

from benchmarks.speech import __main__ as benchmark


def test_more_knowledge_is_more_likely():
    noise = np.random.default_rng(0).normal(size=[60, 300])
    sound = 0.01 * np.cumsum(noise, axis=1)
    rows = benchmark.baselines(sound[:40], sound[40:])
    nats = [row["nats_per_sample"] for row in rows.values()]
    assert len(nats) == 3
    assert nats == sorted(nats)
    # Steps of a random walk are all that is left to say.
    entropy = np.log(0.01) + 0.5 * np.log(2 * np.pi * np.e)
    assert nats[1] == pytest.approx(-entropy, abs=0.05)


def test_the_table_names_every_model():
    rows = {
        "AR(10)": benchmark.spread(np.array([1.0, 3.0])),
        "flow": {
            **benchmark.spread(np.array([4.0, 4.0])),
            "weights": 1234,
            "training_seconds": 5.0,
        },
    }
    shown = io.StringIO()
    document = {"speech": {"source": "a folder"}, "rows": rows}
    Console(file=shown, width=100).print(benchmark.table(document))
    text = shown.getvalue()
    assert "2.000 ± 0.707" in text
    assert "1,234" in text
    assert f"{15 - 4 / np.log(2):.2f}" in text
