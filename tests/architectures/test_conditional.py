"""Conditional flows of every architecture: labels, images, bases, files, exports."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_flows as tfpf
from tfp_flows.architectures.assembly import condition_places
from tfp_flows.bijectors.conditional import condition_dtype, condition_shape
from tfp_flows.testing.subject import perturb

ARCHITECTURES = [
    *("nice", "real_nvp", "real_nvp_image", "glow", "glow_image"),
    *("spline_flow", "maf", "iaf", "ffjord", "ffjord_image"),
]
PLACES = ("couplings", "split_prior", "top_prior")
CASES = pytest.mark.parametrize("architecture", ARCHITECTURES)
CONDITIONED = pytest.mark.parametrize("kind", ["vector", "label", "image"])


@CONDITIONED
@CASES
def test_the_condition_reaches_density_and_samples(architecture, kind, make_flow, draw):
    flow = make_flow(architecture, kind)
    x, c = draw(flow, kind, 3)
    bound = tfpf.condition(flow, c)
    assert type(bound) is type(flow)
    assert bound.batch_shape == (3,)
    assert tuple(bound.batch_shape_tensor()) == (3,)
    same = np.repeat(x[:1], 3, axis=0)
    assert len(np.unique(bound.log_prob(same))) == 3
    samples = bound.sample(2, seed=(1, 2))
    assert samples.shape == (2, 3, *flow.event_shape)
    one = tfpf.condition(flow, c[0])
    assert one.batch_shape == ()
    np.testing.assert_allclose(
        bound.log_prob(same)[0], one.log_prob(x[0]), rtol=1e-4, atol=1e-4
    )


@CASES
def test_gradients_flow_to_a_vector_condition(architecture, make_flow, draw):
    flow = make_flow(architecture, "vector")
    x, c = draw(flow, "vector", 3)
    with tf.GradientTape() as tape:
        c = tf.convert_to_tensor(c)
        tape.watch(c)
        total = tf.reduce_sum(tfpf.condition(flow, c).log_prob(x))
    gradient = tape.gradient(total, c).numpy()
    assert np.isfinite(gradient).all()
    assert np.all(np.abs(gradient).max(axis=1) > 0)


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("real_nvp", "image"), ("glow_image", "label"), ("maf", "label")],
)
def test_fit_save_and_load(architecture, kind, make_flow, draw, tmp_path):
    flow = make_flow(architecture, kind)
    x, c = draw(flow, kind, 16)
    model = tfpf.FlowModel(flow)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    before = [np.array(w) for w in model.trainable_weights]
    data = tf.data.Dataset.from_tensor_slices({"x": x, "condition": c}).batch(8)
    history = model.fit(data, epochs=1, verbose=0)
    assert np.isfinite(history.history["nll"]).all()
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.any(np.array(weight) != old), weight.path
    model.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_array_equal(
        loaded.predict((x, c), verbose=0), model.predict((x, c), verbose=0)
    )
    np.testing.assert_array_equal(
        loaded.sample(2, seed=3, condition=c[:2]),
        model.sample(2, seed=3, condition=c[:2]),
    )


@CONDITIONED
@pytest.mark.parametrize(
    "architecture", ["real_nvp", pytest.param("glow_image", marks=pytest.mark.slow)]
)
def test_export_carries_the_condition(architecture, kind, make_flow, draw, tmp_path):
    flow = make_flow(architecture, kind)
    x, c = draw(flow, kind, 4)
    path = tfpf.export_saved_model(flow, tmp_path / "flow", warmup=False)
    loaded = tf.saved_model.load(path)
    log_prob = loaded.signatures["log_prob"]
    dtype = log_prob.structured_input_signature[1]["condition"].dtype
    assert dtype == condition_dtype(flow.bijector)
    assert dtype == (tf.int32 if kind == "label" else tf.float32)
    given = tf.cast(c, dtype)
    np.testing.assert_allclose(
        log_prob(x=tf.constant(x), condition=given)["log_prob"],
        tfpf.condition(flow, c).log_prob(x),
        rtol=1e-4,
        atol=1e-4,
    )
    drawn = loaded.signatures["sample"](
        n=tf.constant(2),
        seed=tf.constant([0, 1]),
        temperature=tf.constant(1.0),
        condition=given[0],
    )
    assert drawn["samples"].shape == (2, *flow.event_shape)
    if kind == "label":
        with pytest.raises(tf.errors.InvalidArgumentError, match="condition: expected"):
            log_prob(x=tf.constant(x), condition=given + 7)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("architecture", ["nice", "spline_flow", "maf", "glow_image"])
def test_the_base_can_take_the_condition(architecture, encoded, make_flow, draw):
    """With the couplings cut off, only the base is left to tell conditions apart."""
    kind = "label" if encoded else "vector"
    size = 32 if architecture == "glow_image" else 3
    base = tfpf.bases.conditional_normal(size, (4,))
    flow = make_flow(architecture, kind, base=base)
    x, c = draw(flow, kind, 3)
    chain = getattr(flow.bijector.bijectors[-1], "bijector", flow.bijector)
    affine = chain.bijectors[-1]
    assert isinstance(affine, tfpf.ConditionalAffine)
    latents = affine.inverse(np.ones((3, size), "float32"), condition=np.eye(3, 4))
    assert not np.allclose(latents[0], latents[1])
    assert np.isfinite(tfpf.condition(flow, c).log_prob(x)).all()


def test_a_conditional_base_alone_makes_a_flow_conditional():
    base = tfpf.bases.conditional_normal(2, (3,), hidden_units=(4,))
    flow = perturb(tfpf.real_nvp((2,), steps=2, hidden_units=(4,), base=base))
    assert condition_shape(flow.bijector) == (3,)
    densities = tfpf.condition(flow, np.eye(3)).log_prob(np.zeros(2, "float32"))
    assert len(np.unique(densities)) == 3


@pytest.mark.parametrize(
    "use",
    [
        "couplings",
        "split_prior",
        ("top_prior",),
        ["couplings", "top_prior"],
        ("split_prior", "top_prior"),
        ("couplings", "split_prior", "top_prior"),
    ],
)
def test_glow_has_conditions_where_it_is_told(use):
    flow = tfpf.glow(
        (4, 4, 1),
        levels=2,
        steps=1,
        hidden_channels=4,
        condition_shape=(3,),
        condition_use=use,
    )
    taking = [
        type(part).__name__
        for level in flow.bijector.bijectors[0]._levels
        for part in level.bijectors
        if getattr(part, "condition_shape", None) is not None
    ]
    couplings = ["Repeat"] * 2 if "couplings" in use else []
    split = ["AffineCoupling"] if "split_prior" in use else []
    top = ["ConditionalAffine"] if "top_prior" in use else []
    assert sorted(taking) == sorted(couplings + split + top)


@pytest.mark.parametrize(
    ("once", "places"),
    [
        ("prior", ("top_prior",)),
        ("both", ("couplings", "top_prior")),
        ("priors", ("split_prior", "top_prior")),
        ("all", ("couplings", "split_prior", "top_prior")),
    ],
)
def test_places_have_their_old_names_too(once, places):
    assert condition_places(once, PLACES, "learned") == places


def test_a_prior_between_levels_sees_condition_images():
    flow = tfpf.glow(
        (4, 4, 1),
        levels=2,
        steps=1,
        hidden_channels=4,
        condition_shape=(4, 4, 2),
        condition_use="couplings",
    )
    prior = tfpf.real_nvp(
        (4, 4, 1),
        levels=2,
        hidden_channels=4,
        split_prior="learned",
        condition_shape=(4, 4, 2),
        condition_use=("couplings", "split_prior"),
    )
    rng = np.random.default_rng(0)
    c = rng.normal(size=(2, 4, 4, 2))
    x = rng.normal(size=(2, 4, 4, 1)).astype("float32")
    for each in (flow, prior):
        bound = tfpf.condition(perturb(each, 0.1), c)
        y = bound.bijector.forward(bound.bijector.inverse(x) + 0.0)
        np.testing.assert_allclose(y, x, atol=1e-4)
        assert not np.allclose(
            bound.log_prob(x), tfpf.condition(each, -c).log_prob(x), atol=1e-3
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition_shape": ()}, "`condition_shape` must have at least one axis"),
        ({"encoder": keras.layers.Embedding}, "`encoder` must be a `keras.Layer`"),
        ({"encoder": "embedding", "condition_shape": ()}, "`encoder` must be"),
        (
            {"condition_shape": (3,), "base": tfpf.bases.conditional_normal(2, (4,))},
            "`base` must take conditions",
        ),
    ],
)
def test_wrong_conditions_are_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tfpf.real_nvp((2,), steps=2, hidden_units=(4,), **options)


def test_an_encoder_needs_a_condition():
    with pytest.raises(ValueError, match="`condition_shape` must be given"):
        tfpf.nice((2,), encoder=keras.layers.Embedding(3, 4))


@pytest.mark.parametrize("shape", [(), (2,)])
def test_labels_of_a_functional_encoder_are_checked(shape):
    c = keras.Input(shape, dtype="int32")
    output = keras.layers.Embedding(3, 2)(c)
    encoder = keras.Model(c, keras.layers.Flatten()(output) if shape else output)
    flow = tfpf.real_nvp(
        (2,), steps=2, hidden_units=(4,), condition_shape=shape, encoder=encoder
    )
    x = np.zeros((1, 2), "float32")
    for label in (1.9, -1, 3):
        with pytest.raises(ValueError, match="whole numbers from 0 to 2"):
            tfpf.condition(flow, np.full((1, *shape), label)).log_prob(x)
    density = tf.function(
        lambda c: tfpf.condition(flow, c).log_prob(x), jit_compile=True
    )
    assert np.isfinite(density(tf.fill((1, *shape), 2)))
    assert np.isnan(density(tf.fill((1, *shape), 3)))
