"""Masks: every value has one place, and parts never mix."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf

MASKS = [
    tfpf.masks.half(2),
    tfpf.masks.half(5),
    tfpf.masks.half(5, flip=True),
    tfpf.masks.indices(5, [0, 2, 4]),
    tfpf.masks.random(5, seed=1),
    tfpf.masks.random(5, seed=1, flip=True),
    tfpf.masks.positions((5, 2), [3, 1]),
    tfpf.masks.channel((4, 2, 3)),
    tfpf.masks.channel((4, 2, 3), flip=True),
    tfpf.masks.checkerboard((4, 6, 3)),
    tfpf.masks.checkerboard((4, 6, 3), flip=True),
]


@pytest.mark.parametrize("mask", MASKS, ids=repr)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_merge_undoes_split(mask, batch):
    shape = batch + mask.event_shape
    x = tf.reshape(tf.range(np.prod(shape), dtype=tf.float32), shape)
    kept, moved = mask.split(x)
    assert kept.shape == batch + mask.identity_shape
    assert moved.shape == batch + mask.transformed_shape
    np.testing.assert_array_equal(mask.merge(kept, moved), x)


def test_flip_exchanges_the_parts():
    x = tf.reshape(tf.range(24.0), [1, 4, 2, 3])
    for make in (tfpf.masks.channel, tfpf.masks.checkerboard):
        kept, moved = make((4, 2, 3)).split(x)
        kept_flipped, moved_flipped = make((4, 2, 3), flip=True).split(x)
        np.testing.assert_array_equal(kept, moved_flipped)
        np.testing.assert_array_equal(moved, kept_flipped)


def test_checkerboard_keeps_even_pixels():
    row, column = np.mgrid[:4, :6]
    image = ((row + column) % 2).astype("float32")[None, :, :, None]
    kept, moved = tfpf.masks.checkerboard((4, 6, 1)).split(tf.constant(image))
    assert np.all(kept.numpy() == 0)
    assert np.all(moved.numpy() == 1)
