"""A small finished run that the verbs' tests share, and a way to call verbs."""

import numpy as np
import pytest
from typer.testing import CliRunner

from tfp_flows.cli import app

COLUMNS = ("acid", "sugar", "colour")


@pytest.fixture(scope="session")
def invoke():
    """Calls a verb in this process and returns its exit code and output."""
    runner = CliRunner()

    def call(*arguments):
        result = runner.invoke(app, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """A CSV file of three dependent columns."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)) * 5.0 + [1.0, 20.0, 300.0]
    path = tmp_path_factory.mktemp("table") / "wine.csv"
    np.savetxt(path, x, delimiter=",", header=",".join(COLUMNS), comments="")
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory, invoke, table):
    """The folder of a finished run on the table."""
    out = tmp_path_factory.mktemp("runs") / "wine"
    result = invoke(
        "train", "--data", table, "--flow", "real_nvp", "--couplings", 2,
        "--hidden-units", "16", "--epochs", 3, "--batch-size", 64, "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def image_run(tmp_path_factory, invoke):
    """The folder of a finished run on digits, with a very small flow."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    result = invoke(
        "train", "--data", "digits", "--flow", "real_nvp", "--couplings", 2,
        "--hidden-units", "16", "--epochs", 1, "--batch-size", 256, "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return out
