"""Files that the first edition of the package wrote still load, with equal densities.

`data/` holds them as it wrote them at commit a4b8946, but for the compression of the
archives, and `answers.npz` inputs, conditions and what its models made of them.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

import tfp_flows as tfpf

DATA = Path(__file__).parent / "data"
ANSWERS = np.load(DATA / "answers.npz")
NAMES = sorted(path.stem for path in DATA.glob("*.keras"))


def computed(name, path):
    x = ANSWERS.get(f"{name}_x")
    if name == "bijector":
        return tfpf.load_bijector(path).inverse(x)
    model = keras.models.load_model(path)
    if name == "table":
        return model.log_prob({"a": x[:, 0], "b": x[:, 1]})
    if name == "text":
        return model.window_bits(["ab a", "b ab"])
    condition = ANSWERS.get(f"{name}_condition")
    if condition is None:
        return model.distribution.log_prob(x)
    return tfpf.condition(model.distribution, condition).log_prob(x)


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_first_edition_loads(name):
    found = computed(name, DATA / f"{name}.keras")
    np.testing.assert_allclose(found, ANSWERS[name], rtol=1e-5, atol=1e-5)


def test_what_was_loaded_can_be_saved_again(tmp_path):
    model = keras.models.load_model(DATA / "elementwise.keras")
    model.save(tmp_path / "elementwise.keras")
    found = computed("elementwise", tmp_path / "elementwise.keras")
    np.testing.assert_allclose(found, ANSWERS["elementwise"], rtol=1e-5)
