"""A small finished run that the verbs' tests share, and a way to call verbs."""

import contextlib
import dataclasses
import io

import numpy as np
import pytest

from tfp_flows.cli import main

COLUMNS = ("acid", "sugar", "colour")


@dataclasses.dataclass(frozen=True)
class Result:
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def invoke():
    """Calls a verb in this process and returns its exit code and output."""

    def call(*arguments):
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            pytest.raises(SystemExit) as caught,
        ):
            main([str(argument) for argument in arguments])
        return Result(caught.value.code, stdout.getvalue(), stderr.getvalue())

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
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture(scope="session")
def printed(tmp_path_factory, invoke):
    """What a run on digits with a very small flow printed, and its folder."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    result = invoke(
        "train", "--data", "digits", "--flow", "real_nvp", "--couplings", 2,
        "--hidden-units", "16", "--epochs", 1, "--batch-size", 256, "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return result.stdout, out


@pytest.fixture(scope="session")
def image_run(printed):
    """The folder of a finished run on digits, with a very small flow."""
    return printed[1]
