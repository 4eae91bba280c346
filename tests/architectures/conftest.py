"""Small flows of every architecture, with and without conditions."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp

import tfp_flows as tfpf
from tfp_flows.testing.subject import perturb

tfb = tfp.bijectors

VECTOR, IMAGE = (3,), (4, 4, 2)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of condition and how to draw some.

    Attributes:
        shape: `condition_shape` of the flow.
        encoder: Makes the Keras layer that conditions go through, if any.
        draw: Draws n conditions with a NumPy generator.
        seen: Shape that the flow's parts see.
    """

    shape: tuple | None
    draw: Callable
    encoder: Callable | None = None
    seen: tuple | None = (4,)


def image_encoder():
    layers = [
        keras.layers.Conv2D(2, 3, activation="tanh"),
        keras.layers.Flatten(),
        keras.layers.Dense(4),
    ]
    return keras.Sequential(layers)


KINDS = {
    "unconditional": Kind(None, lambda rng, n: None, seen=None),
    "vector": Kind((4,), lambda rng, n: rng.normal(size=(n, 4)).astype("float32")),
    "label": Kind(
        (), lambda rng, n: np.arange(n) % 3, lambda: keras.layers.Embedding(3, 4)
    ),
    "image": Kind(
        (5, 5, 1),
        lambda rng, n: rng.normal(size=(n, 5, 5, 1)).astype("float32"),
        image_encoder,
    ),
}

MAKERS = {
    "nice": lambda **o: tfpf.nice(VECTOR, steps=2, hidden_units=(6,), **o),
    "real_nvp": lambda **o: tfpf.real_nvp(VECTOR, steps=3, hidden_units=(6,), **o),
    "real_nvp_image": lambda **o: tfpf.real_nvp(
        IMAGE, levels=2, hidden_channels=4, blocks=1, split_prior="learned", **o
    ),
    "glow": lambda **o: tfpf.glow(VECTOR, steps=2, hidden_units=(6,), **o),
    "glow_image": lambda **o: tfpf.glow(
        IMAGE, levels=2, steps=1, hidden_channels=4, top_prior="learned", **o
    ),
    "spline_flow": lambda **o: tfpf.spline_flow(
        VECTOR, steps=2, bins=4, hidden_units=(6,), **o
    ),
    "maf": lambda **o: tfpf.maf(VECTOR, steps=3, hidden_units=(6,), **o),
    "iaf": lambda **o: tfpf.maf(VECTOR, steps=2, hidden_units=(6,), inverse=True, **o),
    "ffjord": lambda **o: tfpf.ffjord(
        VECTOR, hidden_units=(6,), solver=tfpf.FixedStep("rk4", 2), **o
    ),
    "ffjord_image": lambda **o: tfpf.ffjord(
        IMAGE, hidden_units=(4,), solver=tfpf.FixedStep("rk4", 2), **o
    ),
}


def with_defaults(name, kind, **options):
    """Builds a flow of an architecture and moves its weights from their start."""
    encoder = KINDS[kind].encoder
    if KINDS[kind].shape is not None and name.startswith(("real_nvp_i", "glow_i")):
        places = ("couplings", "split_prior", "top_prior")
        if name.startswith("real_nvp"):
            places = places[:2]
        options.setdefault("condition_use", places)
    flow = MAKERS[name](
        condition_shape=KINDS[kind].shape,
        encoder=encoder and encoder(),
        **options,
    )
    return perturb(flow, 0.1, seed=7)


@pytest.fixture
def make_flow():
    """The function `make_flow(architecture, kind, **options)`."""
    return with_defaults


@pytest.fixture
def draw():
    """Draws `n` events and conditions for a flow: `draw(flow, kind, n)`."""

    def drawn(flow, kind, n, seed=0):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, *flow.event_shape)).astype("float32")
        return x, KINDS[kind].draw(rng, n)

    return drawn
