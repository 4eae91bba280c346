"""What `export_saved_model` promises: same numbers, whole versions, clear refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.serving import export_saved_model
from tfp_flows.serving.export import read_saved_model
from tfp_flows.serving.servable import servable
from tfp_flows.serving.signatures import LOG_PROB_FLOOR, build_signatures
from tfp_flows.training import sampling

tfb, tfd = tfp.bijectors, tfp.distributions

SIGNATURES = {"serving_default", "log_prob", "encode", "decode"}
SIGNATURES |= {"sample", "sample_batch"}


@pytest.fixture(scope="module")
def exported(toy, tmp_path_factory):
    """The toy flow as Python loads it."""
    flow, _ = toy
    return export_saved_model(flow, tmp_path_factory.mktemp("toy") / "flow")


@pytest.fixture(scope="module")
def served(exported):
    return tf.saved_model.load(exported).signatures


def test_writes_version_one_with_every_signature(exported, served):
    assert Path(exported).name == "1"
    assert set(served) == SIGNATURES


@pytest.mark.parametrize("name", ["log_prob", "serving_default"])
def test_log_prob_equals_the_live_one(toy, served, name):
    flow, x = toy
    answer = served[name](x=tf.constant(x))
    np.testing.assert_allclose(answer["log_prob"], flow.log_prob(x), rtol=2e-6)
    np.testing.assert_allclose(
        answer["bits_per_dim"], -flow.log_prob(x) / (2 * np.log(2.0)), rtol=2e-6
    )
    assert answer["is_finite"].numpy().all()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_seeded_sample_equals_the_live_one(toy, served, temperature):
    flow, _ = toy
    answer = served["sample"](
        n=tf.constant(5),
        seed=tf.constant([3, 4]),
        temperature=tf.constant(temperature),
    )
    live = sampling.sample(flow, 5, tf.constant([3, 4]), temperature=temperature)
    np.testing.assert_allclose(answer["samples"], live, rtol=1e-6)


def test_batched_sample_row_depends_on_its_seed_alone(served):
    seeds = tf.constant([[1, 2], [3, 4], [1, 2]])
    temperatures = tf.constant([1.0, 0.5, 1.0])
    rows = served["sample_batch"](seed=seeds, temperature=temperatures)["samples"]
    np.testing.assert_array_equal(rows[0], rows[2])
    for row, seed, temperature in zip(rows, seeds, temperatures, strict=True):
        alone = served["sample"](n=tf.constant(1), seed=seed, temperature=temperature)
        np.testing.assert_allclose(row, alone["samples"][0], rtol=1e-6)


def test_encode_and_decode_are_the_bijector(toy, served):
    flow, x = toy
    latent = served["encode"](x=tf.constant(x))["latent"]
    np.testing.assert_allclose(latent, flow.bijector.inverse(x), rtol=1e-6)
    back = served["decode"](latent=latent)["samples"]
    np.testing.assert_allclose(back, x, rtol=1e-4)


def test_no_output_is_ever_nan_or_infinite(served):
    # 2 is outside the support, where the density is zero and the latent undefined.
    x = tf.constant([[0.5, 0.5], [2.0, 0.5]])
    scored, encoded = served["log_prob"](x=x), served["encode"](x=x)
    np.testing.assert_array_equal(scored["is_finite"], [True, False])
    np.testing.assert_array_equal(encoded["is_finite"], [True, False])
    assert scored["log_prob"][1].numpy() == np.float32(LOG_PROB_FLOOR)
    for output in (*scored.values(), *encoded.values()):
        json.dumps(output.numpy().tolist(), allow_nan=False)


def test_declares_the_shapes_that_clients_should_send(exported):
    (meta_graph,) = read_saved_model(Path(exported)).meta_graphs
    signatures = meta_graph.signature_def
    shapes = {
        (signature, name): [dim.size for dim in info.tensor_shape.dim]
        for signature in signatures
        for name, info in signatures[signature].inputs.items()
        if not info.tensor_shape.unknown_rank
    }
    assert shapes == {
        ("serving_default", "x"): [-1, 2],
        ("log_prob", "x"): [-1, 2],
        ("encode", "x"): [-1, 2],
        ("decode", "latent"): [-1, 2],
        ("sample", "n"): [],
        ("sample", "seed"): [2],
        ("sample", "temperature"): [],
        ("sample_batch", "seed"): [-1, 2],
        ("sample_batch", "temperature"): [-1],
    }


def test_scores_at_the_time_of_export(tmp_path):
    loc = tf.Variable(0.0)
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.Shift(loc))
    before = export_saved_model(flow, tmp_path, warmup=False)
    loc.assign(3.0)
    after = export_saved_model(flow, tmp_path, warmup=False)
    x = tf.constant([0.0, 3.0])
    scores = [
        tf.saved_model.load(path).signatures["log_prob"](x=x)["log_prob"].numpy()
        for path in (before, after)
    ]
    np.testing.assert_allclose(scores[0], scores[1][::-1], rtol=1e-6)
    assert [Path(before).name, Path(after).name] == ["1", "2"]


def test_plain_distribution_has_no_latent(tmp_path):
    path = export_saved_model(tfd.Gamma([2.0], [1.0])[0], tmp_path, warmup=False)
    served = tf.saved_model.load(path).signatures
    assert set(served) == SIGNATURES - {"encode", "decode"}
    answer = served["log_prob"](x=tf.constant([1.0, 2.0]))
    expected = tfd.Gamma(2.0, 1.0).log_prob([1.0, 2.0])
    np.testing.assert_allclose(answer["log_prob"], expected, rtol=1e-6)


def test_base_without_a_mean_is_sampled_at_temperature_one_only(tmp_path):
    base = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), tfb.Softplus())
    flow = tfd.TransformedDistribution(base, tfb.Shift(1.0))
    path = export_saved_model(flow, tmp_path, warmup=False)
    sample = tf.saved_model.load(path).signatures["sample"]
    n, seed = tf.constant(3), tf.constant([1, 2])
    drawn = sample(n=n, seed=seed, temperature=tf.constant(1.0))["samples"]
    np.testing.assert_allclose(drawn, sampling.sample(flow, 3, (1, 2)), rtol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="temperature: expected 1"):
        sample(n=n, seed=seed, temperature=tf.constant(0.5))


def test_float64_flow_is_served_in_float64(tmp_path):
    base = tfd.Sample(tfd.Normal(tf.constant(0.0, tf.float64), 1.0), [3])
    flow = tfd.TransformedDistribution(base, tfb.Tanh())
    path = export_saved_model(flow, tmp_path, warmup=False)
    x = flow.sample(4, seed=(0, 1))
    answer = tf.saved_model.load(path).signatures["log_prob"](x=x)["log_prob"]
    np.testing.assert_allclose(answer, flow.log_prob(x), rtol=1e-12)


def test_image_flow_scores_uint8_at_the_middle_of_the_cell(tmp_path):
    base = tfd.Sample(tfd.Normal(8.0, 3.0), [2, 2, 1])
    flow = tfd.TransformedDistribution(base, tfb.Shift(0.25))
    path = export_saved_model(flow, tmp_path, warmup=False)
    served = tf.saved_model.load(path).signatures
    image = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    answer = served["log_prob_uint8"](image=tf.constant(image))
    expected = flow.log_prob(image.astype(np.float32) + 0.5)
    np.testing.assert_allclose(answer["log_prob"], expected, rtol=1e-6)


class _Distance:
    """Distance of the latent from the origin, fitted to raise 1 alarm in 100."""

    threshold = 3.0

    def __call__(self, x, log_prob, latent):
        return tf.norm(latent, axis=-1)


def test_a_fitted_scorer_travels_along(toy, tmp_path):
    flow, x = toy
    path = export_saved_model(flow, tmp_path, warmup=False, scorer=_Distance())
    served = tf.saved_model.load(path).signatures["anomaly_score"]
    rows = np.concatenate([x, [[2.0, 2.0]]]).astype("float32")
    answer = {name: value.numpy() for name, value in served(x=rows).items()}
    distance = np.linalg.norm(flow.bijector.inverse(x), axis=-1)
    np.testing.assert_allclose(answer["anomaly_score"][:-1], distance, rtol=1e-5)
    np.testing.assert_array_equal(answer["is_anomaly"][:-1], distance > 3.0)
    # Outside the support there is no latent: certainly an anomaly.
    assert not answer["is_finite"][-1]
    assert answer["is_anomaly"][-1]
    assert np.isfinite(answer["anomaly_score"][-1])


def test_a_score_runs_the_inverse_once(toy):
    signatures = build_signatures(servable(toy[0]), 8, _Distance())
    (score,) = [s for s in signatures if s.name == "anomaly_score"]
    operations = score.trace().graph.get_operations()
    assert sum("PartitionedCall" in operation.type for operation in operations) == 1


def test_chosen_version_and_the_next_one(toy, tmp_path):
    flow, _ = toy
    assert export_saved_model(flow, tmp_path, version=7, warmup=False).endswith("/7")
    assert export_saved_model(flow, tmp_path, warmup=False).endswith("/8")
    with pytest.raises(ValueError, match=r"`version` must not exist yet.*version=7"):
        export_saved_model(flow, tmp_path, version=7)


@pytest.mark.parametrize(
    ("name", "value"),
    [("version", 0), ("version", "3"), ("max_samples", 2.5), ("precision", "float8")],
)
def test_wrong_arguments_are_named(toy, tmp_path, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: {name}="):
        export_saved_model(toy[0], tmp_path / "flow", **{name: value})
    assert not (tmp_path / "flow").exists()


@pytest.mark.parametrize(
    ("thing", "error", "message"),
    [
        (tfb.Exp(), TypeError, "must be a `tfpf.FlowModel` or a `tfd.Distribution`"),
        (tfd.Bernoulli(0.5), TypeError, "one floating point tensor"),
        (tfd.Normal([0.0, 1.0], 1.0), ValueError, "must be a single distribution"),
        (
            tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0)]),
            TypeError,
            "one floating point tensor",
        ),
    ],
    ids=["bijector", "integers", "batch", "joint"],
)
def test_what_cannot_be_served_is_refused(tmp_path, thing, error, message):
    with pytest.raises(error, match=message):
        export_saved_model(thing, tmp_path / "flow")
    assert not (tmp_path / "flow").exists()


class _Compiled(tfb.Bijector):
    """A bijector that compiles itself with XLA, as a user's own might."""

    def __init__(self):
        super().__init__(forward_min_event_ndims=0, name="compiled")

    def _forward(self, x):
        return tf.function(tf.exp, jit_compile=True)(x)

    def _inverse(self, y):
        return tf.math.log(y)

    def _inverse_log_det_jacobian(self, y):
        return -tf.math.log(y)


def test_xla_inside_a_bijector_is_refused_and_leaves_nothing(tmp_path):
    flow = tfd.TransformedDistribution(tfd.Normal(0.0, 1.0), _Compiled())
    with pytest.raises(ValueError, match="must not use XLA"):
        export_saved_model(flow, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_compiled_part_in_a_good_export(exported):
    text = Path(exported, "saved_model.pb").read_bytes()
    assert b"_XlaMustCompile" not in text


def test_a_failure_while_writing_leaves_nothing(toy, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("tfp_flows.serving.export.require_no_xla", fail)
    with pytest.raises(OSError, match="no space"):
        export_saved_model(toy[0], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_base_path_that_is_a_file_is_refused(toy, tmp_path):
    file = tmp_path / "flow"
    file.write_text("mine")
    with pytest.raises(ValueError, match="`base_path` must be a directory"):
        export_saved_model(toy[0], file)
    assert file.read_text() == "mine"
