"""`tfpf.optimizer`: the learning rate over time, clipping, averages, wrong input."""

import keras
import numpy as np
import pytest

import tfp_flows as tfpf
from tfp_flows.training.optimizers import CLIP_NORMS, WarmUp


def rates(optimizer, steps):
    schedule = optimizer._learning_rate
    return [float(schedule(step)) for step in steps]


def test_warm_up_rises_in_a_line_and_stays():
    warm = tfpf.optimizer(0.1, warmup_steps=10)
    np.testing.assert_allclose(
        rates(warm, [0, 4, 9, 10, 1000]), [0.01, 0.05, 0.1, 0.1, 0.1], rtol=1e-6
    )
    again = WarmUp.from_config(warm._learning_rate.get_config())
    assert float(again(4)) == pytest.approx(0.05)
    assert float(tfpf.optimizer(0.1).learning_rate) == pytest.approx(0.1)


def test_cosine_falls_to_zero_with_and_without_a_warm_up():
    cosine = tfpf.optimizer(0.1, decay="cosine", steps=100)
    np.testing.assert_allclose(rates(cosine, [0, 50, 100]), [0.1, 0.05, 0], atol=1e-7)
    warm = tfpf.optimizer(0.1, decay="cosine", steps=100, warmup_steps=20)
    np.testing.assert_allclose(
        rates(warm, [0, 10, 20, 60, 100]), [0.005, 0.0525, 0.1, 0.05, 0], atol=1e-7
    )


def test_an_optimizer_comes_back_from_its_configuration():
    made = tfpf.optimizer(0.1, warmup_steps=5, clip_norm="medium", ema=0.9)
    config = keras.optimizers.serialize(made)
    again = keras.optimizers.deserialize(config)
    assert again.get_config() == made.get_config()
    assert again.global_clipnorm == CLIP_NORMS["medium"]


def test_clipping_bounds_a_step():
    """Adam divides by the gradient's size; its first moment shows the gradient."""
    model = tfpf.FlowModel(tfpf.real_nvp((2,), couplings=2, hidden_units=(4,)))
    model.compile(optimizer=tfpf.optimizer(1e-3, clip_norm=0.5))
    x = 100.0 * np.random.default_rng(0).normal(size=(32, 2)).astype("float32")
    model.adapt(x / 100.0)
    model.fit(x, batch_size=32, verbose=0)
    moments = [v for v in model.optimizer.variables if "momentum" in v.path]
    assert len(moments) == len(model.trainable_variables)
    norm = np.sqrt(sum(np.sum(np.square(np.array(v))) for v in moments)) / 0.1
    assert norm == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"learning_rate": 0.0}, "`learning_rate` must be a finite number above 0"),
        ({"warmup_steps": -1}, "`warmup_steps` must be an integer of at least 0"),
        ({"warmup_steps": 1.5}, "`warmup_steps` must be an integer"),
        ({"decay": "linear"}, "`decay` must be one of 'constant', 'cosine'"),
        (
            {"decay": "cosine", "steps": 10, "warmup_steps": 10},
            "`warmup_steps` must be below `steps`. .*warmup_steps=10 with steps=10",
        ),
        ({"decay": "cosine"}, "`steps` must be an integer of at least 1"),
        ({"weight_decay": -0.1}, "`weight_decay` must be a finite number at least 0"),
        ({"clip_norm": "strict"}, "`clip_norm` must be a positive number or one of"),
        ({"clip_norm": 0.0}, "`clip_norm` must be a positive number"),
        ({"ema": 1.0}, "`ema` must be a finite number above 0 and below 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        tfpf.optimizer(**arguments)
