"""`Backup` and `Data.passes`: everything that training needs to go on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfd = tfp.distributions

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
PIXELS = np.random.default_rng(0).integers(0, 16, (40, 4, 4, 1), np.uint8)


def compiled(optimizer=None, units=8):
    # Outside of `Repeat` a dropout's seed is no weight, and no weight file has it.
    net = tfpf.nets.MLP((units,), dropout=0.5)
    flow = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(0.0, 1.0), 4),
        tfpf.AffineCoupling(tfpf.masks.half(4), net),
    )
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=optimizer or tfpf.optimizer(0.01, ema=0.9))
    return model


def state(model):
    return [np.array(v) for v in [*model.variables, *model.optimizer.variables]]


def test_every_variable_comes_back(tmp_path):
    model = compiled()
    model.fit(X, epochs=2, verbose=0, callbacks=[tfpf.Backup(tmp_path)])
    # `fit` ends with the averages in place of the weights; the state is from before.
    assert len(list(tmp_path.iterdir())) == 1
    other = compiled()
    assert tfpf.Backup(tmp_path).restore(other) == 2
    tfpf.Backup(tmp_path / "again").save(other, 2)
    third = compiled()
    assert tfpf.Backup(tmp_path / "again").restore(third) == 2
    for a, b in zip(state(other), state(third), strict=True):
        np.testing.assert_array_equal(a, b)
    seeds = [v for v in other.variables if "seed" in v.path]
    assert seeds
    assert all(int(np.array(v)[1]) > 0 for v in seeds), "dropout has drawn"
    assert int(other.optimizer.iterations) == 4


def test_going_on_equals_never_stopping(tmp_path):
    data = tfpf.data.Data("x", "table", X, X, batch_size=24, seed=5)

    def train(folder, epochs):
        keras.utils.set_random_seed(1)
        model = compiled()
        backup = tfpf.Backup(folder)
        done = backup.restore(model)
        model.fit(
            data.epochs(done), steps_per_epoch=data.steps, initial_epoch=done,
            epochs=epochs, callbacks=[backup], verbose=0,
        )  # fmt: skip
        return model

    straight = train(tmp_path / "a", 5)
    train(tmp_path / "b", 2)
    stopped = train(tmp_path / "b", 5)
    for a, b in zip(state(straight), state(stopped), strict=True):
        np.testing.assert_array_equal(a, b)


def test_epochs_go_on_where_others_would_be():
    data = tfpf.data.Data(
        "x", "image", PIXELS, PIXELS, pixel_levels=16, batch_size=16, seed=3
    )
    assert data.steps == 3
    straight = list(data.epochs().take(9))
    later = list(data.epochs(2).take(3))
    for a, b in zip(straight[6:], later, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [len(batch) for batch in straight] == [16, 16, 8] * 3
    for start in (0, 3, 6):
        once = np.concatenate(straight[start : start + 3])
        counted = np.sort(np.floor(once).reshape(40, -1).sum(axis=1))
        np.testing.assert_array_equal(counted, np.sort(PIXELS.reshape(40, -1).sum(1)))
    first, second = (np.concatenate(straight[i : i + 3]) for i in (0, 3))
    assert np.abs(first - second).max() > 1, "another order"
    noise = [np.sort((pixels % 1.0).ravel()) for pixels in (first, second)]
    assert np.abs(noise[0] - noise[1]).max() > 0, "other noise"
    assert len(np.unique(noise[0])) > 0.99 * noise[0].size


def test_epochs_over_pairs_keep_them_together():
    pairs = tfpf.data.endless_epochs((X, X[:, :1]), 16, seed=1)
    for x, c in pairs.take(5):
        np.testing.assert_array_equal(x[:, :1], c)


def test_what_a_killed_writer_left_is_no_state(tmp_path):
    model = compiled()
    backup = tfpf.Backup(tmp_path)
    assert backup.restore(model) == 0
    backup.save(model, 3)
    half = tmp_path / ".writing-abc"
    half.mkdir()
    (half / "epoch-00000004.npz").write_bytes(b"PK")
    assert backup.restore(model) == 3


def test_the_state_of_another_model_is_refused(tmp_path):
    tfpf.Backup(tmp_path).save(compiled(), 1)
    with pytest.raises(ValueError, match=r"\(?`model` must be the model and optimizer"):
        tfpf.Backup(tmp_path).restore(compiled(units=16))
    with pytest.raises(ValueError, match="`model` must be the model and optimizer"):
        tfpf.Backup(tmp_path).restore(compiled(keras.optimizers.SGD()))


def test_bfloat16_weights_keep_their_bits(tmp_path):
    def model():
        with tfpf.network_precision("bfloat16"):
            net = tfpf.nets.MLP((8,))
            flow = tfd.TransformedDistribution(
                tfd.Sample(tfd.Normal(0.0, 1.0), 4),
                tfpf.AffineCoupling(tfpf.masks.half(4), net, dtype="float32"),
            )
        made = tfpf.FlowModel(flow)
        made.compile(optimizer=keras.optimizers.SGD(0.1))
        return made

    first, second = model(), model()
    assert any(v.dtype == "bfloat16" for v in first.variables)
    tfpf.Backup(tmp_path).save(first, 1)
    tfpf.Backup(tmp_path).restore(second)
    for a, b in zip(first.variables, second.variables, strict=True):
        assert bool(tf.reduce_all(tf.equal(a.value, b.value)))
