"""The representation benchmark: its features, its flows and its comparison."""

import numpy as np
import pytest

import tfp_flows as tfpf
from benchmarks.representation import __main__ as benchmark
from benchmarks.representation import flows, probes
from benchmarks.representation import representations as kinds


@pytest.fixture(scope="module")
def digits():
    return tfpf.data.load("digits")


@pytest.fixture(scope="module")
def features(digits):
    logit = flows.logit_of("digits", digits.pixel_levels)
    flow = tfpf.glow((8, 8, 1), levels=2, steps=1, hidden_channels=4, preprocess=logit)
    train, test = digits.x_train[:400], digits.x_test[:50]
    model = tfpf.FlowModel(flow)
    return kinds.representations("digits", model, logit, train, test)


def test_every_kind_has_a_row_an_image(features):
    sizes = {name: train.shape[1] for name, (train, _) in features.items()}
    assert sizes[kinds.PIXELS] == sizes[kinds.LATENTS] == sizes[kinds.LOGIT] == 64
    assert sizes[kinds.COARSEST] == sizes[kinds.PCA_COARSEST] == 32
    assert sizes[kinds.PCA_FEW] == kinds.FEW["digits"]
    # Some of the 64 pixels are always 0, and have no direction of their own.
    assert 50 < sizes[kinds.WHITENED] < 64
    for train, test in features.values():
        assert (len(train), len(test)) == (400, 50)
        assert np.isfinite(train).all()
        assert np.isfinite(test).all()


def test_whitened_components_have_unit_covariance(features):
    train, _ = features[kinds.WHITENED]
    np.testing.assert_allclose(np.cov(train.T), np.eye(train.shape[1]), atol=1e-2)


def test_leads_are_those_of_the_same_draws(features, digits):
    some = {k: features[k] for k in (kinds.PIXELS, kinds.PCA_FEW, kinds.LATENTS)}
    some[kinds.COARSEST] = some[kinds.LATENTS]
    labels = digits.labels_train[:400], digits.labels_test[:50]
    report = probes.few_labels(some, *labels, per_class=(5,), draws=3)
    found = benchmark.leads(report)
    over = found[f"{kinds.LATENTS} over {kinds.PIXELS}"]["5"]
    pair = [report.row(k, 5).accuracies for k in (kinds.LATENTS, kinds.PIXELS)]
    assert over[0] == pytest.approx(np.mean(np.subtract(*pair)))
    assert (
        found[f"{kinds.COARSEST} over {kinds.PCA_FEW}"]["5"]
        == found[f"{kinds.LATENTS} over {kinds.PCA_FEW}"]["5"]
    )


@pytest.mark.slow
def test_a_flow_is_trained_once_and_read_the_next_time(tmp_path, digits):
    model, seconds = flows.trained("digits", digits, tmp_path, minutes=0.05, seed=0)
    again, none = flows.trained("digits", digits, tmp_path, minutes=0.05, seed=0)
    assert seconds > 0.0
    assert none == 0.0
    x = digits.x_test[:5] + np.float32(0.5)
    np.testing.assert_array_equal(
        model.distribution.log_prob(x), again.distribution.log_prob(x)
    )
