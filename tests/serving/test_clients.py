"""The clients, the load script and the C scorer that go with an export."""

import importlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tfp_flows.training import sampling

EXPORT = Path(__file__).parents[2] / "export"


@pytest.fixture
def scripts(monkeypatch):
    """Imports a script of the `export` folder."""
    monkeypatch.syspath_prepend(str(EXPORT))
    return importlib.import_module


@pytest.fixture(params=["grpc", "rest"])
def kind(request):
    return request.param


@pytest.fixture
def address(kind, toy_server):
    return toy_server.grpc_address if kind == "grpc" else toy_server.rest_address


@pytest.fixture
def client_class(kind, scripts):
    if kind == "grpc":
        return scripts("client_grpc").GrpcClient
    return scripts("client_rest").RestClient


def test_client_scores_and_samples(toy, address, client_class):
    flow, x = toy
    with client_class(address, "flow") as client:
        # float64 data, as NumPy makes it: the client casts to what is served.
        scores = client.predict("log_prob", {"x": x.astype("float64")})
        np.testing.assert_allclose(scores["log_prob"], flow.log_prob(x), rtol=2e-6)
        inputs = {"n": 3, "seed": [1, 2], "temperature": 0.5}
        drawn = client.predict("sample", inputs)["samples"]
        expected = sampling.sample(flow, 3, (1, 2), 0.5)
        np.testing.assert_allclose(drawn, expected, rtol=1e-6)


def test_client_passes_on_the_servers_message(address, client_class):
    with client_class(address, "flow") as client:
        with pytest.raises(ValueError, match=r"x: expected shape \[batch, 2\]"):
            client.predict("log_prob", {"x": np.zeros([1, 3])})
        with pytest.raises(ValueError, match="expected one of decode"):
            client.predict("nothing", {"x": np.zeros([1, 3])})
    with (
        client_class(address, "other") as client,
        pytest.raises(ValueError, match="expected 'flow', received 'other'"),
    ):
        client.predict("log_prob", {"x": np.zeros([1, 2])})


def test_client_says_when_no_server_is_there(kind, client_class):
    scheme = "http://" if kind == "rest" else ""
    with (
        client_class(f"{scheme}127.0.0.1:9", "flow", timeout=0.5) as client,
        pytest.raises(OSError, match=r"DEADLINE_EXCEEDED|Max retries"),
    ):
        client.predict("log_prob", {"x": [[0.5, 0.5]]})


def test_command_line_of_the_clients(
    toy, kind, address, client_class, scripts, tmp_path
):
    run_command = scripts("client_command").run_command
    drawn, latent = tmp_path / "drawn.npy", tmp_path / "latent.npy"

    def run(*words):
        common = ["--address", address, "--model", "flow"]
        return run_command(client_class, "", [*common, *map(str, words)])

    assert run("--out", drawn, "sample", "--n", 3, "--seed", 1, 2) == 0
    expected = sampling.sample(toy[0], 3, (1, 2))
    np.testing.assert_allclose(np.load(drawn), expected, rtol=1e-6)
    assert run("--out", latent, "encode", drawn) == 0
    np.testing.assert_allclose(
        np.load(latent), toy[0].bijector.inverse(np.load(drawn)), rtol=1e-4
    )
    assert run("log_prob", drawn) == 0


def test_command_line_prints_one_message_and_fails(
    toy_server, scripts, tmp_path, capsys
):
    rest = scripts("client_rest")
    wrong = tmp_path / "wrong.npy"
    np.save(wrong, np.zeros([2, 5]))
    words = ["--address", toy_server.rest_address, "--model", "flow"]
    words += ["log_prob", str(wrong)]
    assert scripts("client_command").run_command(rest.RestClient, "", words) == 1
    assert capsys.readouterr().err.startswith("error: x: expected shape [batch, 2]")


@pytest.mark.parametrize(
    "signature", ["log_prob", "encode", "decode", "sample", "sample_batch"]
)
def test_load_script_measures_every_signature(
    kind, address, signature, scripts, capsys
):
    words = [f"--{kind}", address, "--model", "flow", "--signature", signature]
    words += ["--rows", "2", "--concurrency", "2", "--seconds", "0.2"]
    assert scripts("load").main(words) == 0
    report = capsys.readouterr().out
    assert ", 0 failed" in report
    for percent in (50, 90, 95, 99):
        assert f"p{percent}  " in report


def test_load_script_counts_failures(address, client_class, scripts):
    load = scripts("load")
    report = load.run_load(
        lambda: client_class(address, "flow"),
        "log_prob",
        {"x": np.zeros([1, 7])},
        concurrency=1,
        seconds=0.1,
    )
    assert report.errors
    assert len(report.seconds) == 0
    assert "failed     ValueError: x: expected shape" in str(report)


@pytest.fixture(scope="module")
def score_csv(build_c, tmp_path_factory):
    program = tmp_path_factory.mktemp("score_csv") / "score_csv"
    build_c(EXPORT / "cpp" / "score_csv.c", program)

    def run(version, text):
        return subprocess.run(
            [str(program), str(version)],
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def test_c_program_scores_a_csv(toy, toy_version, score_csv):
    flow, _ = toy
    # More rows than it reads at a time, and a header.
    x = flow.sample(1500, seed=(3, 4)).numpy()
    lines = ["first,second", *(",".join(f"{v:.9g}" for v in row) for row in x)]
    done = score_csv(toy_version, "\n".join(lines))
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header == "log_prob,bits_per_dim,is_finite"
    scores = np.array([[float(v) for v in row.split(",")] for row in rows])
    np.testing.assert_allclose(scores[:, 0], flow.log_prob(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores[:, 1], -scores[:, 0] / np.log(4.0), rtol=1e-5)
    np.testing.assert_array_equal(scores[:, 2], 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5,0.5\n0.5\n", "line 2: expected 2 numbers"),
        ("0.5,0.5,0.5\n", "line 1: expected 2 numbers"),
        ("a,b\n0.5,x\n", "line 2: expected 2 numbers"),
        ("0.5,0.5\n0.5,nan\n", "x: expected finite numbers"),
    ],
)
def test_c_program_names_the_line_at_fault(toy_version, score_csv, text, message):
    done = score_csv(toy_version, text)
    assert done.returncode == 1
    assert message in done.stderr


def test_c_program_names_a_model_that_is_not_there(score_csv, tmp_path):
    done = score_csv(tmp_path / "9", "0.5,0.5\n")
    assert done.returncode == 1
    assert "error: cannot load the model" in done.stderr
