"""Grids of samples: layout, files, TensorBoard's records."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows.internal.pictures import picture_grid, write_png
from tfp_flows.training.callbacks import SampleGrid

DATA = np.random.default_rng(0).uniform(0.0, 17.0, (64, 4, 4, 1)).astype("float32")


def make_model(**kwargs):
    flow = tfpf.real_nvp((4, 4, 1), couplings=2, hidden_units=(4,), **kwargs)
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    return model


def test_grid_layout():
    images = np.arange(5.0)[:, None, None, None] * np.ones((5, 2, 3, 1))
    picture = picture_grid(images, pixel_levels=6, columns=3)
    assert picture.shape == (2 * 3 - 1, 3 * 4 - 1, 1)
    assert picture.dtype == np.uint8
    assert picture[0, 4, 0] == 51
    assert picture[3, 0, 0] == 3 * 51
    assert np.all(picture[2] == 255)
    assert np.all(picture[3:, 8:] == 255)


def test_rows_of_images_stay_rows():
    rows = np.random.default_rng(0).uniform(0.0, 6.0, (2, 5, 2, 3, 1))
    flat = picture_grid(rows.reshape(10, 2, 3, 1), pixel_levels=6, columns=5)
    np.testing.assert_array_equal(picture_grid(rows, pixel_levels=6), flat)


def test_pixels_are_whole_values_and_bad_ones_are_tamed():
    values = np.array([0.0, 0.99, 1.0, 255.9, -3.0, 300.0, np.nan, np.inf])
    picture = picture_grid(values.reshape(8, 1, 1, 1), 256, columns=8, margin=0)
    np.testing.assert_array_equal(picture[0, :, 0], [0, 0, 1, 255, 0, 255, 0, 255])


def test_png_round_trip(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_png(tmp_path / "p.png", picture)
    again = tf.io.decode_png((tmp_path / "p.png").read_bytes())
    np.testing.assert_array_equal(again, picture)
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_callback_writes_every_second_epoch(tmp_path):
    grids = SampleGrid(tmp_path / "grids", 17, every=2, n=9, log_dir=tmp_path / "board")
    model = make_model()
    model.fit(DATA, epochs=4, batch_size=32, callbacks=[grids], verbose=0)
    names = sorted(path.name for path in (tmp_path / "grids").iterdir())
    assert names == ["samples-0002.png", "samples-0004.png"]
    last = tf.io.decode_png((tmp_path / "grids" / names[-1]).read_bytes())
    expected = picture_grid(model.sample(9, seed=0), 17)
    np.testing.assert_allclose(last, expected, atol=255 / 16)
    assert np.mean(np.abs(last - expected.astype(int))) < 2.0
    (events,) = (tmp_path / "board").iterdir()
    raw = tf.data.TFRecordDataset(str(events))
    records = [tf.compat.v1.Event.FromString(r.numpy()) for r in raw]
    steps = [r.step for r in records if len(r.summary.value)]
    assert steps == [2, 4]
    width, height, png = records[-1].summary.value[0].tensor.string_val
    assert (int(width), int(height)) == (last.shape[1], last.shape[0])
    np.testing.assert_array_equal(tf.io.decode_png(png), last)


def test_a_column_for_each_condition(tmp_path):
    model = make_model(condition_shape=(3,))
    grids = SampleGrid(tmp_path, 17, n=2, condition=np.eye(3, dtype="float32"))
    labels = np.eye(3, dtype="float32")[np.arange(64) % 3]
    model.fit(DATA, labels, batch_size=64, callbacks=[grids], verbose=0)
    picture = tf.io.decode_png((tmp_path / "samples-0001.png").read_bytes())
    assert picture.shape == (2 * 5 - 1, 3 * 5 - 1, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: picture_grid(np.zeros((4, 4, 1)), 256), "`images` must have shape"),
        (lambda: picture_grid(np.zeros((0, 4, 4, 1)), 256), "`images` must have shape"),
        (
            lambda: SampleGrid("x", 256, every=0),
            "`every` must be an integer of at least 1",
        ),
        (lambda: SampleGrid("x", 256, n=1.5), "`n` must be an integer of at least 1"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
