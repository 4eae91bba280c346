"""Dequantization, bit reduction and the split."""

import numpy as np
import pytest

from tfp_flows.data import datasets


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_dequantized_pixels_stay_in_their_cell(dtype):
    pixels = np.arange(256).astype(dtype).repeat(500)
    v = datasets.dequantize(pixels, [1, 2]).numpy()
    assert v.dtype == np.float32
    assert np.array_equal(np.floor(v), pixels.astype(np.float32))
    assert np.mean(v - pixels) == pytest.approx(0.5, abs=0.005)
    assert np.var(v - pixels) == pytest.approx(1 / 12, abs=0.002)


def test_dequantized_white_never_reaches_the_next_level():
    """In float32 255 + u rounds up to 256 about once in 130,000 pixels."""
    white = np.full([4_000_000], 255, np.uint8)
    v = datasets.dequantize(white, [0, 0]).numpy()
    assert v.max() < 256.0
    assert v.min() >= 255.0


def test_dequantization_noise_follows_the_seed():
    pixels = np.zeros([10, 4], np.uint8)
    first, again = (datasets.dequantize(pixels, [1, 2]).numpy() for _ in "ab")
    other = datasets.dequantize(pixels, [1, 3]).numpy()
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_reduce_bits():
    pixels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(datasets.reduce_bits(pixels, 8), pixels)
    assert np.array_equal(datasets.reduce_bits(pixels, 1), pixels // 128)
    five = datasets.reduce_bits(pixels, 5)
    assert np.array_equal(np.bincount(five), np.full(32, 8))


@pytest.mark.parametrize("n_bits", [0, 9, -1])
def test_reduce_bits_refuses(n_bits):
    with pytest.raises(ValueError, match="`n_bits` must be 1 to 8"):
        datasets.reduce_bits(np.zeros(3, np.uint8), n_bits)


def test_split_is_a_fixed_partition():
    train, test = datasets.split_indices(1797, 297)
    assert sorted([*train, *test]) == list(range(1797))
    assert len(test) == 297
    again = datasets.split_indices(1797, 297)
    assert np.array_equal(test, again[1])
    assert not np.array_equal(test, datasets.split_indices(1797, 297, seed=1)[1])


@pytest.mark.parametrize("test_size", [0, 10, 11])
def test_split_refuses_an_empty_part(test_size):
    with pytest.raises(ValueError, match="`test_size` must leave"):
        datasets.split_indices(10, test_size)
