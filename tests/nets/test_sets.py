"""`SetEncoder`: no order, any number of vectors, files."""

import keras
import numpy as np
import pytest

import tfp_flows as tfpf

X = np.random.default_rng(0).normal(size=(3, 7, 2)).astype("float32")


@pytest.mark.parametrize("heads", [0, 2])
def test_sees_a_set_and_no_order(heads, tmp_path):
    encoder = tfpf.nets.SetEncoder(5, width=8, heads=heads)
    features = np.array(encoder(X))
    assert features.shape == (3, 5)
    np.testing.assert_allclose(encoder(X[:, ::-1]), features, atol=1e-5)
    assert np.abs(np.array(encoder(X[:, :4])) - features).max() > 1e-3
    model = keras.Sequential([keras.Input((None, 2)), encoder])
    model.save(tmp_path / "encoder.keras")
    again = keras.models.load_model(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(again(X), model(X))


def test_encodes_the_condition_of_a_flow():
    flow = tfpf.real_nvp(
        (2,),
        steps=2,
        hidden_units=(4,),
        condition_shape=(7, 2),
        encoder=tfpf.nets.SetEncoder(3, width=4),
    )
    assert tfpf.condition(flow, X).log_prob(X[:, 0]).shape == (3,)
