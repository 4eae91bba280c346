"""`Squeeze`: laws, and where each of its channel orders puts a value."""

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf

Y = np.random.default_rng(0).normal(size=(3, 4, 6, 2))


@pytest.mark.parametrize("order", ["block", "channel", "checkerboard"])
def test_laws(laws, order):
    laws(tfpf.Squeeze(order=order, dtype="float64"), Y)


def test_orders_are_as_documented():
    for order, place in {
        "block": lambda r, q, k: (2 * r + q) * 2 + k,
        "channel": lambda r, q, k: 4 * k + 2 * r + q,
        "checkerboard": lambda r, q, k: [[0, 2], [3, 1]][r][q] * 2 + k,
    }.items():
        x = tfpf.Squeeze(order=order, dtype="float64").inverse(Y).numpy()
        for r, q, k in np.ndindex(2, 2, 2):
            np.testing.assert_array_equal(
                x[..., place(r, q, k)],
                Y[:, r::2, q::2, k],
                err_msg=f"{order} {r}{q}{k}",
            )


def test_a_channel_split_of_the_checkerboard_order_keeps_one_colour():
    rows, columns = np.indices((4, 6))
    colour = ((rows + columns) % 2)[..., None].astype("float64")
    kept, left = np.split(tfpf.Squeeze(order="checkerboard").inverse(colour), 2, -1)
    assert np.all(kept == 0)
    assert np.all(left == 1)


def test_larger_blocks_and_any_batch_rank():
    y = np.random.default_rng(0).normal(size=(2, 5, 6, 9, 2))
    squeeze = tfpf.Squeeze(3, order="channel", dtype="float64")
    x = squeeze.inverse(y)
    assert x.shape == (2, 5, 2, 3, 18)
    np.testing.assert_array_equal(squeeze.forward(tf.identity(x)), y)
    np.testing.assert_array_equal(squeeze.inverse(y[0, 0]), x[0, 0])
    assert squeeze.inverse_event_shape([6, 9, 2]) == (2, 3, 18)
    assert squeeze.forward_event_shape([2, 3, 18]) == (6, 9, 2)
    np.testing.assert_array_equal(
        squeeze.inverse_event_shape_tensor([6, 9, 2]), x.shape[2:]
    )
    np.testing.assert_array_equal(
        squeeze.forward_event_shape_tensor([2, 3, 18]), [6, 9, 2]
    )


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: tfpf.Squeeze(1), "`block` must be an integer of at least 2"),
        (lambda: tfpf.Squeeze(order="rows"), "`order` must be one of"),
        (lambda: tfpf.Squeeze(3, order="checkerboard"), "needs `block=2`"),
        (lambda: tfpf.Squeeze().inverse(np.zeros((5, 4, 1), "f4")), "divisible by 2"),
        (lambda: tfpf.Squeeze().forward(np.zeros((2, 2, 6), "f4")), "divisible by 4"),
    ],
)
def test_wrong_arguments_are_named(act, message):
    with pytest.raises(ValueError, match=message):
        act()
