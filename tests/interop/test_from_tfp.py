"""TFP's own flows carried over: equal log_prob, inverse and samples."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions
# The Keras that TFP's networks are made of.
tf_keras = next(
    __import__(cls.__module__.partition(".")[0])
    for cls in tfb.GlowDefaultNetwork.__mro__
    if cls.__module__.startswith("tf_keras.")
)

pytestmark = pytest.mark.filterwarnings("ignore:`tf.layers.dense` is deprecated")

TOLERANCE = {"float32": 2e-4, "float64": 1e-10}


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    before = tf_keras.backend.floatx()
    tf_keras.backend.set_floatx(request.param)
    yield request.param
    tf_keras.backend.set_floatx(before)


def normal(shape, dtype="float32"):
    zero, one = (tf.constant(value, dtype) for value in (0.0, 1.0))
    return tfd.Sample(tfd.Normal(zero, one), shape)


def data(shape, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def perturb(variables, spread=0.3):
    """Makes weights that start at zero or at an orthogonal matrix mean something."""
    rng = np.random.default_rng(7)
    changed = 0
    for variable in variables:
        if variable.dtype.is_floating:
            noise = spread * rng.normal(size=variable.shape)
            variable.assign_add(tf.cast(noise, variable.dtype))
            changed += 1
    assert changed


def assert_equal_flows(source, carried, x, z):
    """Compares densities, latents, and what becomes of given latents."""
    tolerance = TOLERANCE[x.dtype.name]
    for mine, theirs in [
        (carried.log_prob(x), source.log_prob(x)),
        (carried.bijector.inverse(x), source.bijector.inverse(x)),
        (carried.bijector.forward(z), source.bijector.forward(z)),
        (carried.sample(3, seed=(1, 2)), source.sample(3, seed=(1, 2))),
    ]:
        scale = 1.0 + np.abs(theirs).max()
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, tolerance, tolerance * scale)


def dense(units, inputs, dtype, activation="tanh", **options):
    """A network whose weights TFP can see is an attribute; this one is not."""
    network = tf_keras.Sequential(
        [
            tf_keras.layers.Input((inputs,), dtype=dtype),
            *(tf_keras.layers.Dense(n, activation, **options) for n in units[:-1]),
            tf_keras.layers.Dense(units[-1]),
        ]
    )
    perturb(network.variables)
    return network


def affine(network, change=lambda r: r, swap=False):
    def shift_and_log_scale(x, units):
        shift, log_scale = tf.split(network(x), 2, axis=-1)
        if swap:
            shift, log_scale = log_scale, shift
        return shift, change(log_scale)

    return shift_and_log_scale


def around(bijector, size, dtype):
    """A flow of this bijector, called once so that it has weights."""
    flow = tfd.TransformedDistribution(normal([size], dtype), bijector)
    flow.log_prob(data((2, size), dtype))
    return flow


# kept, all, and the class of the mask that is expected.
SPLITS = [(2, 4, "LastAxisMask"), (-3, 5, "LastAxisMask"), (1, 5, "IndexMask")]
SPLITS += [(-1, 5, "IndexMask")]


@pytest.mark.parametrize(("masked", "size", "mask"), SPLITS)
def test_real_nvp_with_the_default_template(masked, size, mask, dtype):
    template = tfb.real_nvp_default_template([8, 6], activation=tf.nn.tanh)
    nvp = tfb.RealNVP(num_masked=masked, shift_and_log_scale_fn=template)
    source = around(nvp, size, dtype)
    perturb(template.variables)
    carried = tfpf.from_tfp(source)
    coupling = carried.bijector
    assert isinstance(coupling, tfpf.AffineCoupling)
    assert type(coupling.mask).__name__ == mask
    assert isinstance(coupling.conditioner, tfpf.nets.MLP)
    assert_equal_flows(source, carried, data((6, size), dtype), data((4, size), dtype))


def test_real_nvp_that_only_shifts(dtype):
    template = tfb.real_nvp_default_template([7], shift_only=True)
    nvp = tfb.RealNVP(fraction_masked=0.5, shift_and_log_scale_fn=template)
    source = around(nvp, 4, dtype)
    perturb(template.variables)
    carried = tfpf.from_tfp(source)
    assert isinstance(carried.bijector, tfpf.AdditiveCoupling)
    assert_equal_flows(source, carried, data((6, 4), dtype), data((5, 4), dtype))


@pytest.mark.parametrize(
    ("log_scale", "change"),
    [
        ("exp", lambda r: r),
        ("tanh", tf.tanh),
        ("soft_clamp", lambda r: 2.0 * tf.tanh(0.5 * r)),
        ("sigmoid", lambda r: tf.math.log_sigmoid(r + 2.0)),
    ],
)
@pytest.mark.parametrize("swap", [False, True])
def test_real_nvp_around_a_model_in_a_closure(log_scale, change, swap, dtype):
    function = affine(dense([9, 7, 6], 2, dtype), change, swap)
    source = around(tfb.RealNVP(2, shift_and_log_scale_fn=function), 5, dtype)
    carried = tfpf.from_tfp(source)
    assert carried.bijector.parameters["log_scale"] == log_scale
    assert_equal_flows(source, carried, data((6, 5), dtype), data((4, 5), dtype))


def test_real_nvp_with_a_bijector_function_and_mixed_layers(dtype):
    layers = tf_keras.layers
    network = tf_keras.Sequential(
        [
            layers.Input((2,), dtype=dtype),
            layers.Dense(8),
            layers.LeakyReLU(0.1),
            layers.Dropout(0.5),
            layers.Dense(6, activation="elu", use_bias=False),
            layers.Dense(4),
        ]
    )
    perturb(network.variables)

    def bijector_fn(x, units):
        raw = network(x)
        return tfb.Shift(raw[..., units:])(tfb.Scale(log_scale=raw[..., :units]))

    source = around(tfb.RealNVP(2, bijector_fn=bijector_fn), 4, dtype)
    carried = tfpf.from_tfp(source)
    assert isinstance(carried.bijector.conditioner, keras.Sequential)
    assert_equal_flows(source, carried, data((6, 4), dtype), data((4, 4), dtype))


def test_a_chain_around_real_nvp_keeps_the_other_parts(tmp_path):
    loc = tf.Variable([0.1, 0.2, 0.3, 0.4])
    parts = [tfb.Shift(loc)]
    for _ in range(2):
        function = affine(dense([8, 4], 2, "float32"))
        nvp = tfb.RealNVP(2, shift_and_log_scale_fn=function)
        parts += [nvp, tfb.Permute([3, 1, 0, 2]), tfb.Invert(nvp)]
    source = around(tfb.Chain(parts, name="mine"), 4, "float32")
    carried = tfpf.from_tfp(source)
    assert carried.bijector.name == "mine"
    assert carried.bijector.bijectors[0] is source.bijector.bijectors[0]
    x = data((6, 4), "float32")
    assert_equal_flows(source, carried, x, data((5, 4), "float32"))

    tfpf.save_distribution(carried, tmp_path / "flow.keras")
    loaded = tfpf.load_distribution(tmp_path / "flow.keras")
    np.testing.assert_array_equal(loaded.log_prob(x), carried.log_prob(x))

    model = tfpf.FlowModel(carried)
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    before = carried.log_prob(x)
    model.fit(x, epochs=3, verbose=0)
    assert np.mean(carried.log_prob(x)) > np.mean(before)
    assert not np.array_equal(loc, [0.1, 0.2, 0.3, 0.4])


def glow(dtype, shape=(8, 4, 2), coupling=None, leaving=None, **options):
    made = tfb.Glow(
        shape,
        coupling_bijector_fn=coupling
        or (lambda shape: tfb.GlowDefaultNetwork(shape, num_hidden=5)),
        exit_bijector_fn=leaving or tfb.GlowDefaultExitNetwork,
        **options,
    )
    size = int(np.prod(shape))
    flow = tfd.TransformedDistribution(normal([size], dtype), made)
    flow.log_prob(data((16, *shape), dtype))  # initializes the actnorms
    perturb(made.trainable_variables, 0.1)
    return flow


@pytest.mark.parametrize(
    ("levels", "steps", "actnorm"),
    [pytest.param(2, 3, True, marks=pytest.mark.slow), (1, 1, True), (2, 2, False)],
)
def test_glow_with_the_default_networks(levels, steps, actnorm, dtype):
    source = glow(
        dtype, num_glow_blocks=levels, num_steps_per_block=steps, use_actnorm=actnorm
    )
    carried = tfpf.from_tfp(source)
    x, z = data((3, 8, 4, 2), dtype, 1), data((3, 64), dtype, 2)
    assert_equal_flows(source, carried, x, z)
    trained = sum(int(np.prod(v.shape)) for v in source.trainable_variables)
    # Ours has a gain for each output of a last convolution besides.
    assert len(carried.trainable_variables) > 0
    assert sum(int(np.prod(v.shape)) for v in carried.trainable_variables) > trained


def test_glow_of_three_levels():
    source = glow("float32", (8, 8, 1), num_glow_blocks=3, num_steps_per_block=1)
    x, z = data((2, 8, 8, 1), "float32", 1), data((2, 64), "float32", 2)
    assert_equal_flows(source, tfpf.from_tfp(source), x, z)


@pytest.mark.slow
def test_glow_with_networks_of_other_shapes():
    def additive(shape):
        layers = tf_keras.layers
        return tf_keras.Sequential(
            [
                layers.Input(shape),
                layers.Conv2D(6, 5, padding="same", activation="elu"),
                layers.Conv2D(shape[-1], 3, padding="same"),
            ]
        )

    source = glow(
        "float32",
        (4, 4, 2),
        additive,
        lambda shape, output_chan: additive((*shape[:-1], output_chan)),
        num_glow_blocks=2,
        num_steps_per_block=2,
    )
    carried = tfpf.from_tfp(source)
    x, z = data((2, 4, 4, 2), "float32", 1), data((2, 32), "float32", 2)
    assert_equal_flows(source, carried, x, z)


@pytest.mark.slow
def test_a_carried_glow_trains_and_is_saved(tmp_path):
    source = glow("float32", (4, 4, 1), num_glow_blocks=2, num_steps_per_block=2)
    carried = tfpf.from_tfp(source)
    x = data((32, 4, 4, 1), "float32")
    model = tfpf.FlowModel(carried)
    assert model.is_adapted
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    history = model.fit(x, epochs=5, verbose=0).history["nll"]
    assert history[-1] < history[0]
    model.save(tmp_path / "glow.keras")
    loaded = keras.models.load_model(tmp_path / "glow.keras")
    np.testing.assert_array_equal(loaded.distribution.log_prob(x), carried.log_prob(x))
    latents = carried.distribution.sample(4, seed=(0, 1))
    report = tfpf.check_bijector(carried.bijector, latents)
    assert report.ok, str(report)


def test_what_needs_no_carrying_comes_back_itself():
    flow = tfpf.nice((4,), couplings=2, hidden_units=(4,))
    assert tfpf.from_tfp(flow) is flow
    chain = tfb.Chain([tfb.Exp(), tfb.Invert(tfb.Softplus())])
    assert tfpf.from_tfp(chain) is chain
    inside = tfd.Independent(tfd.Normal([0.0, 1.0], 1.0), 1)
    assert tfpf.from_tfp(inside) is inside


def uncalled():
    return tfb.RealNVP(2, shift_and_log_scale_fn=tfb.real_nvp_default_template([4]))


def two_networks():
    a, b = dense([4, 2], 2, "float32"), dense([4, 2], 2, "float32")
    return tfb.RealNVP(2, shift_and_log_scale_fn=lambda x, units: (a(x), b(x)))


def something_else():
    function = affine(dense([4, 4], 2, "float32"), lambda r: tf.sin(3.0 * r))
    return tfb.RealNVP(2, shift_and_log_scale_fn=function)


def spline():
    network = dense([4, 4], 2, "float32")

    def bijector_fn(x, units):
        return tfb.SinhArcsinh(network(x)[..., :2], 1.5)

    return tfb.RealNVP(2, bijector_fn=bijector_fn)


def batch_norm():
    layers = tf_keras.layers
    network = tf_keras.Sequential(
        [layers.Input((2,)), layers.Dense(4), layers.BatchNormalization()]
    )
    return tfb.RealNVP(2, shift_and_log_scale_fn=affine(network))


def autoregressive():
    network = tfb.AutoregressiveNetwork(2, hidden_units=[4], event_shape=[4])
    return tfb.MaskedAutoregressiveFlow(network)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (uncalled, "called once"),
        (two_networks, "with 2 networks"),
        (something_else, "does something else"),
        (spline, "does something else"),
        (batch_norm, "'BatchNormalization'"),
        (autoregressive, "'MaskedAutoregressiveFlow'"),
        (lambda: called(tfb.BatchNormalization()), "'BatchNormalization'"),
    ],
)
def test_what_cannot_be_carried_is_named(build, message):
    bijector = build()
    if build is not uncalled:
        bijector.inverse(data((2, 4), "float32"))
    with pytest.raises(ValueError, match=message):
        tfpf.from_tfp(tfb.Chain([tfb.Exp(), bijector]))


def called(bijector):
    bijector.inverse(tf.ones([2, 4]))
    return bijector


def test_a_glow_that_splits_otherwise_is_refused():
    with pytest.raises(ValueError, match="grab_after_block"):
        tfpf.from_tfp(
            tfb.Glow(
                (4, 4, 2),
                2,
                1,
                tfb.GlowDefaultNetwork,
                tfb.GlowDefaultExitNetwork,
                grab_after_block=(0.25, 0.0),
            )
        )


def test_other_things_are_refused():
    with pytest.raises(TypeError, match="must be a TFP distribution or bijector"):
        tfpf.from_tfp(tfb.GlowDefaultNetwork((4, 4, 1)))
