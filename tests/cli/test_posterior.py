"""`tfp-flows posterior`: a known posterior, its files, and what is refused."""

import json

import numpy as np
import pytest

from tfp_flows.cli import posterior_run


def simulations(n, seed=0):
    """A location, a positive scale and a share; three statistics."""
    rng = np.random.default_rng(seed)
    theta = np.stack([rng.normal(2, 3, n), rng.exponential(size=n), rng.random(n)], 1)
    noise = rng.normal(size=(n, 3))
    x = np.column_stack(
        [theta[:, 0] + 0.5 * noise[:, 0], np.log(theta[:, 1]), theta[:, 2]]
    )
    return theta, x + 0.1 * noise


def write(path, names, rows):
    np.savetxt(path, rows, delimiter=",", header=names, comments="")
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("posterior")
    theta, x = simulations(400)
    return (
        write(folder / "theta.csv", "loc,scale,share", theta),
        write(folder / "x.csv", "a,b,c", x),
        write(folder / "observed.csv", "c,a,b", [[0.5, 1.0, 0.0], [0.02, 90.0, 0.0]]),
    )


BOUNDS = ("--low=-inf,0,0", "--high", "inf,inf,1")


@pytest.fixture(scope="module")
def fitted(written, invoke, tmp_path_factory):
    theta, x, observed = written
    out = tmp_path_factory.mktemp("out") / "fit"
    done = invoke(
        "posterior", "--theta", theta, "--x", x, "--observed", observed, "--out", out,
        *BOUNDS, "--epochs", 15, "--draws", 500, "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return out, done.stdout


def test_draws_are_of_the_posterior(fitted):
    draws = np.loadtxt(fitted[0] / "draws.csv", delimiter=",", skiprows=1)
    assert draws.shape == (1000, 4)
    first = draws[draws[:, 0] == 1, 1:]
    # The columns were matched by name, and nothing is beyond the bounds.
    assert (abs(first.mean(axis=0) - [1.0, 1.0, 0.5]) < [0.6, 0.4, 0.15]).all()
    assert (draws[:, 2] > 0).all()
    assert ((draws[:, 3] >= 0) & (draws[:, 3] <= 1)).all()


def test_everything_is_written_and_what_is_wrong_is_said(fitted):
    out, printed = fitted
    names = {path.name for path in out.iterdir()}
    assert names == {
        "draws.csv", "posterior_1.png", "posterior_2.png", "calibration.png",
        "report.json", "posterior.keras",
    }  # fmt: skip
    report = json.loads((out / "report.json").read_text())
    judged = report["diagnostics"]
    assert judged["pairs"] == {"train": 360, "held_out": 40}
    assert set(judged["parameters"]) == {"loc", "scale", "share"}
    assert 0.6 < judged["parameters"]["loc"]["contraction"] < 1.0
    assert 0.6 < judged["parameters"]["share"]["coverage"]["0.9"] <= 1.0
    assert report["observations"][1]["outside_of_simulations"] == ["a"]
    assert "observation 2 is outside of all simulations in a" in printed
    assert "contraction" in printed


def test_a_second_call_trains_nothing(fitted, written, invoke, tmp_path):
    out = fitted[0]
    again = tmp_path / "again"
    done = invoke(
        "posterior", "--model", out, "--observed", written[2], "--out", again,
        "--draws", 500,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert (again / "draws.csv").read_text() == (out / "draws.csv").read_text()


def test_data_may_have_a_constant_column(tmp_path):
    theta, x = simulations(100)
    x[:, 1] = 7.0
    read = posterior_run.read_pairs(
        write(tmp_path / "theta.csv", "loc,scale,share", theta),
        write(tmp_path / "x.csv", "a,b,c", x),
    )
    np.testing.assert_allclose(read.x, x, rtol=1e-6)


WRONG = {
    "bounds": (["--low", "0"], "'loc', which goes from"),
    "count": (["--low", "0,1"], "`--low` must be a number, or 3 of them for loc"),
    "text": (["--high", "much"], "`--high` must be a number"),
    "both": (["--model", "fit"], "`--model` must be given, or else `--theta`"),
    "columns": (["--observed", "theta.csv"], "must have the columns of the simulated"),
    "rows": (["--theta", "observed.csv"], "at least 10 rows"),
    "constant": (["--theta", "constant.csv"], "no constant columns"),
    "unequal": (["--x", "short.csv"], "equally many rows, at least 100. Received: 400"),
    "missing": (["--x", "nothing.csv"], "must be an existing file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_in_a_sentence(
    case, written, invoke, tmp_path, monkeypatch
):
    given, message = WRONG[case]
    monkeypatch.chdir(written[0].parent)
    write("short.csv", "a,b,c", simulations(50)[1])
    write("constant.csv", "one", np.ones((400, 1)))
    usual = {"--theta": "theta.csv", "--x": "x.csv", "--observed": "observed.csv"}
    usual |= {given[0]: given[1]}
    arguments = [part for pair in usual.items() for part in pair]
    done = invoke("posterior", *arguments, "--out", tmp_path / "out")
    assert done.exit_code == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_neither_model_nor_simulations(written, invoke, tmp_path):
    done = invoke("posterior", "--observed", written[2], "--out", tmp_path / "out")
    assert (done.exit_code, "Received: neither" in done.stderr) == (2, True)
    done = invoke(
        "posterior", "--observed", written[2], "--theta", written[0],
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert "`--x` must be given" in done.stderr
