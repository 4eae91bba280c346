"""The C library runs an export as Python does, and refuses in the same messages."""

import numpy as np
import pytest

import tfp_flows as tfpf
from tfp_flows.serving import export_saved_model
from tfp_flows.training import sampling

FLOWS = {
    "nice": lambda: tfpf.nice((4,), couplings=2, hidden_units=(16,)),
    "real_nvp": lambda: tfpf.real_nvp((2,), couplings=4, hidden_units=(16,)),
    "glow": lambda: tfpf.glow((3,), steps=3, hidden_units=(16,)),
    "spline_flow": lambda: tfpf.spline_flow((2,), couplings=2, hidden_units=(16,)),
    "ffjord": lambda: tfpf.ffjord((2,), hidden_units=(16,)),
    "maf": lambda: tfpf.maf((3,), layers=2, hidden_units=(16,)),
    "iaf": lambda: tfpf.maf((3,), layers=2, hidden_units=(16,), inverse=True),
    "nice of images": lambda: tfpf.nice((4, 4, 1), couplings=2, hidden_units=(16,)),
    "real_nvp of images": lambda: tfpf.real_nvp(
        (4, 4, 1), levels=2, hidden_channels=8, preprocess=tfpf.logit(17.0)
    ),
    "glow of images": lambda: tfpf.glow(
        (4, 4, 1), levels=2, steps=1, hidden_channels=8, preprocess=tfpf.logit(17.0)
    ),
}
CONDITIONAL = {
    "nice": lambda **c: tfpf.nice((2,), couplings=2, hidden_units=(8,), **c),
    "real_nvp": lambda **c: tfpf.real_nvp((2,), couplings=2, hidden_units=(8,), **c),
    "glow": lambda **c: tfpf.glow((2,), steps=2, hidden_units=(8,), **c),
    "spline_flow": lambda **c: tfpf.spline_flow(
        (2,), couplings=2, hidden_units=(8,), **c
    ),
    "maf": lambda **c: tfpf.maf((2,), layers=2, hidden_units=(8,), **c),
    "ffjord": lambda **c: tfpf.ffjord((2,), hidden_units=(8,), **c),
}


PAIR = {"seed": np.int32([[3, 4], [5, 6]]), "temperature": np.float32([0.7, 1])}


def close(actual, expected):
    """Equal to 1e-5, relative to 1 or to the size of the numbers."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow if n == "real_nvp of images" else [])
        for n in FLOWS
    ],
)
def test_every_signature_equals_python(name, c_runner, draw, shaken, tmp_path):
    flow = shaken(FLOWS[name]())
    runner = c_runner(export_saved_model(tfpf.FlowModel(flow), tmp_path, warmup=False))
    x = flow.sample(7, seed=(5, 6)).numpy()
    close(runner.run("log_prob", x=x)["log_prob"], flow.log_prob(x))
    close(runner.run("serving_default", x=x)["log_prob"], flow.log_prob(x))
    latent = runner.run("encode", x=x)["latent"]
    close(latent, flow.bijector.inverse(x))
    close(runner.run("decode", latent=latent)["samples"], x)
    drawn = runner.run("sample", **draw(5, (3, 4), 0.7))
    close(drawn["samples"], sampling.sample(flow, 5, (3, 4), 0.7))
    rows = runner.run("sample_batch", **PAIR)
    close(rows["samples"][1], sampling.sample(flow, 1, (5, 6))[0])
    if len(flow.event_shape) == 3:
        # Pixels that a flow of 17 levels can have, at the middle of their cells.
        image = np.random.default_rng(0).integers(0, 17, (7, 4, 4, 1)).astype(np.uint8)
        scored = runner.run("log_prob_uint8", image=image)["log_prob"]
        close(scored, flow.log_prob(image + np.float32(0.5)))


@pytest.mark.parametrize("name", CONDITIONAL)
def test_conditional_flow_equals_python(name, c_runner, draw, shaken, tmp_path):
    flow = CONDITIONAL[name](condition_shape=(3,))
    model = tfpf.FlowModel(shaken(flow))
    runner = c_runner(export_saved_model(model, tmp_path, warmup=False))
    generator = np.random.default_rng(1)
    x, c = generator.normal(size=(5, 2)), generator.normal(size=(5, 3))
    x, c = x.astype("float32"), c.astype("float32")
    given = tfpf.condition(flow, c)
    close(runner.run("log_prob", x=x, condition=c)["log_prob"], given.log_prob(x))
    latent = runner.run("encode", x=x, condition=c)["latent"]
    close(runner.run("decode", latent=latent, condition=c)["samples"], x)
    drawn = runner.run("sample", **draw(4, (1, 2), 0.5), condition=c[0])["samples"]
    close(drawn, model.sample(4, seed=(1, 2), temperature=0.5, condition=c[0]))
    rows = runner.run(
        "sample_batch",
        seed=np.int32([[1, 2]] * 5),
        temperature=np.float32([0.5] * 5),
        condition=c,
    )["samples"]
    close(rows[0], model.sample(1, seed=(1, 2), temperature=0.5, condition=c[0])[0])


SMALL = {"latent_dim": 3, "pixel_levels": 17, "channels": (4, 4)}
LATENT = {
    "flow": lambda: tfpf.latent.LatentFlow((4, 4, 1), **SMALL),
    "flow in two stages": lambda: tfpf.latent.LatentFlow(
        (4, 4, 1), training="two-stage", **SMALL
    ),
    "vae with two flows": lambda: tfpf.latent.LatentVAE(
        (4, 4, 1),
        prior=tfpf.real_nvp((3,), couplings=2, hidden_units=(8,)),
        posterior=tfpf.maf(
            (3,), layers=2, hidden_units=(8,), inverse=True, condition_shape=(2,)
        ),
        **SMALL,
    ),
}


@pytest.mark.parametrize("name", LATENT)
def test_latent_model_equals_python(name, c_runner, draw, shaken, tmp_path):
    model = shaken(LATENT[name](), 0.03)
    runner = c_runner(export_saved_model(model, tmp_path, warmup=False))
    x = np.random.default_rng(1).uniform(0, 17, (5, 4, 4, 1)).astype("float32")
    latent = runner.run("encode", x=x)["latent"]
    close(latent, model.encode(x))
    close(runner.run("decode", latent=latent)["samples"], model.decode(latent))
    for signature in ("latent_log_prob", "serving_default"):
        answer = runner.run(signature, x=x)["latent_log_prob"]
        close(answer, model.latent_log_prob(x))
    seeds = np.int32([[1, 2], [3, 4], [5, 6], [7, 8], [1, 2]])
    bounds = runner.run("elbo", x=x, seed=seeds)["elbo"]
    alone = [model.elbo(x[i : i + 1], tuple(seeds[i]))[0] for i in range(5)]
    close(bounds, alone)
    drawn = runner.run("sample", **draw(5, (3, 4), 0.7))["samples"]
    close(drawn, model.sample(5, (3, 4), 0.7))
    rows = runner.run("sample_batch", **PAIR)["samples"]
    close(rows[1], model.sample(1, (5, 6))[0])
    for wrong in (f32(4, 4, 1), f32(2, 4, 4), f32(1, 4, 4, 1) * np.nan):
        for signature in ("encode", "latent_log_prob"):
            with pytest.raises(Exception, match="x: expected") as refusal:
                runner.run(signature, x=wrong)
            assert refusal.value.code == 3, "INVALID_ARGUMENT"
    with pytest.raises(Exception, match="seed: expected as many rows as `x` has, 5"):
        runner.run("elbo", x=x, seed=seeds[:1])


def f32(*shape):
    return np.full(shape, 0.5, np.float32)


ROWS = [
    (f32(), "received shape []."),
    (f32(2), "received shape [2]."),
    (f32(3, 5), "received shape [3, 5]."),
    (f32(0, 2), "expected at least one row, received shape [0, 2]."),
    (f32(1, 2, 1), "received shape [1, 2, 1]."),
    (f32(1, 2) * np.nan, "expected finite numbers, received 2 that"),
    (f32(1, 2) * -np.inf, "expected finite numbers, received 2 that"),
]
WRONG = [
    *[("log_prob", {"x": x}, f"x: .*{text}") for x, text in ROWS],
    *[("encode", {"x": x}, f"x: .*{text}") for x, text in ROWS],
    *[("decode", {"latent": x}, f"latent: .*{text}") for x, text in ROWS],
    (
        "sample_batch",
        {"seed": np.int32([[1, 2]]), "temperature": np.float32([1, 1])},
        "temperature: expected as many rows as `seed` has, 1, received 2.",
    ),
    (
        "sample_batch",
        {"seed": np.int32([[1, 2]]), "temperature": np.float32(1)},
        "temperature: expected shape [batch], received shape [].",
    ),
    (
        "sample_batch",
        {"seed": np.int32([[1, 2, 3]]), "temperature": np.float32([1])},
        "seed: expected shape [batch, 2], received shape [1, 3].",
    ),
]
WRONG_DRAWS = [
    *[
        ({"n": n}, f"n: expected a number from 1 to 64, received {n}.")
        for n in (0, -1, 65, 2**31 - 1)
    ],
    ({"n": [1]}, "n: expected a single number, received shape [1]."),
    ({"seed": [1]}, "seed: expected shape [2], received shape [1]."),
    ({"seed": [1, 2, 3]}, "seed: expected shape [2], received shape [3]."),
    ({"temperature": -0.5}, "temperature: expected at least 0, received -0.5"),
    ({"temperature": np.nan}, "temperature: expected finite numbers"),
    ({"temperature": [1.0]}, "temperature: expected a single number"),
]


def as_pattern(message):
    for mark in "[]":
        message = message.replace(mark, "\\" + mark)
    return message


def test_wrong_requests_are_answered_with_a_message(toy, toy_version, c_runner, draw):
    _, x = toy
    runner = c_runner(toy_version)
    before = runner.run("log_prob", x=x)["log_prob"]
    draws = [("sample", draw(**wrong), message) for wrong, message in WRONG_DRAWS]
    for signature, inputs, message in WRONG + draws:
        with pytest.raises(Exception, match=as_pattern(message)) as refusal:
            runner.run(signature, **inputs)
        assert refusal.value.code == 3, "INVALID_ARGUMENT"
    np.testing.assert_array_equal(runner.run("log_prob", x=x)["log_prob"], before)


def test_wrong_dtype_is_refused(toy_version, c_runner):
    runner = c_runner(toy_version)
    with pytest.raises(Exception, match="double.*float|float.*double") as refusal:
        runner.run("log_prob", x=np.zeros([1, 2]))
    assert refusal.value.code == 3
