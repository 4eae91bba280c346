"""What tells right posteriors from wrong ones."""

import numpy as np
import pytest

from tfp_flows.inference import c2st, local_c2st


def normal(*shape, seed=0, mean=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(mean, scale, shape)


def test_c2st_is_that_of_the_benchmark():
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    p = normal(300, 2, mean=3.0, scale=2.0)
    q = normal(300, 2, seed=1, mean=4.0)
    x, y = (p - p.mean(0)) / p.std(0, ddof=1), (q - p.mean(0)) / p.std(0, ddof=1)
    network = MLPClassifier((20, 20), max_iter=1000, random_state=1)
    folds = KFold(5, shuffle=True, random_state=1)
    scores = cross_val_score(
        network, np.concatenate([x, y]), [0] * 300 + [1] * 300, cv=folds
    )
    assert c2st(p, q, seed=1) == pytest.approx(scores.mean(), abs=1e-12)


def test_c2st_of_equal_and_of_shifted_draws():
    # The best accuracy for means two deviations apart is the normal's at 1.
    p = normal(1000, 1)
    assert abs(c2st(p, normal(1000, 1, seed=1)) - 0.5) < 0.05
    assert abs(c2st(p, normal(1000, seed=1, mean=2.0)) - 0.841) < 0.03


@pytest.mark.parametrize(
    ("p", "q", "word"),
    [
        (np.zeros([5, 2]), np.zeros([5, 3]), "draws_q"),
        (np.zeros([5, 2]), np.zeros([4, 2]), "draws_q"),
        (np.full([5, 2], np.nan), np.zeros([5, 2]), "draws_p"),
        (np.zeros([5, 2, 2]), np.zeros([5, 2]), "draws_p"),
    ],
)
def test_c2st_refuses(p, q, word):
    with pytest.raises(ValueError, match=f"Argument `{word}` must"):
        c2st(p, q)


def test_local_c2st_finds_where_a_posterior_is_wrong():
    # theta ~ N(0, 1), x | theta ~ N(theta, 1): theta | x ~ N(x / 2, 1 / 2). The tried
    # posterior is right for x < 0 and shifted for x > 0.
    n = 2000
    theta = normal(n)
    x = theta + normal(n, seed=1)

    def draws(x, seed):
        return x / 2 + np.sqrt(0.5) * normal(len(x), seed=seed) + 1.5 * (x > 0)

    found = [
        local_c2st(
            draws(x, 2), theta, x, draws(np.full(500, o), 3), [o], trials=19, seed=0
        )
        for o in (-1.5, 1.5)
    ]
    assert found[0].p_value > 0.05 >= found[1].p_value
    assert found[1].statistic > 3.0 * found[0].statistic
