"""The local server answers as TF Serving does, over REST and gRPC."""

import json
import shutil
import socket
import threading

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from tfp_flows.serving import export_saved_model
from tfp_flows.serving.server import LocalServer
from tfp_flows.serving.server.watched_model import WatchedModel
from tfp_flows.training import sampling


@pytest.fixture(scope="module")
def url(toy_server):
    return f"{toy_server.rest_address}/v1/models/flow"


@pytest.fixture(scope="module")
def channel(toy_server):
    with grpc.insecure_channel(toy_server.grpc_address) as open_channel:
        yield open_channel


@pytest.fixture(scope="module")
def predict(channel, predict_request):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def call(signature, inputs, outputs=(), name="flow", version=None):
        request = predict_request(signature, inputs, name)
        if version is not None:
            request.model_spec.version.value = version
        request.output_filter.extend(outputs)
        return stub.Predict(request, timeout=60)

    return call


def ask(url, body):
    answer = requests.post(f"{url}:predict", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_rest_rows_of_the_default_signature(toy, url):
    flow, x = toy
    rows = ask(url, {"instances": x.tolist()})["predictions"]
    log_prob = [row["log_prob"] for row in rows]
    np.testing.assert_allclose(log_prob, flow.log_prob(x), rtol=2e-6)
    assert all(row["is_finite"] for row in rows)


def test_rest_rows_by_name(toy, url):
    instances = [
        {"seed": [1, 2], "temperature": 1.0},
        {"seed": [3, 4], "temperature": 0},
    ]
    body = {"signature_name": "sample_batch", "instances": instances}
    rows = ask(url, body)["predictions"]
    expected = sampling.sample(toy[0], 1, (1, 2))[0]
    np.testing.assert_allclose(rows[0]["samples"], expected, rtol=1e-6)


def test_rest_columns(toy, url):
    inputs = {"n": 3, "seed": [1, -2], "temperature": 0.5}
    outputs = ask(url, {"signature_name": "sample", "inputs": inputs})["outputs"]
    expected = sampling.sample(toy[0], 3, (1, -2), 0.5)
    np.testing.assert_allclose(outputs["samples"], expected, rtol=1e-6)
    plain = ask(url, {"signature_name": "encode", "inputs": toy[1].tolist()})
    latent = toy[0].bijector.inverse(toy[1])
    np.testing.assert_allclose(plain["outputs"]["latent"], latent, rtol=1e-5)


@pytest.mark.parametrize("path", ["", "/versions/1"])
def test_rest_status_and_metadata(url, path):
    status = requests.get(url + path, timeout=60).json()["model_version_status"]
    assert [(line["version"], line["state"]) for line in status] == [("1", "AVAILABLE")]
    metadata = requests.get(f"{url}{path}/metadata", timeout=60).json()
    assert metadata["model_spec"]["name"] == "flow"
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    shape = signatures["log_prob"]["inputs"]["x"]["tensor_shape"]["dim"]
    assert [dim["size"] for dim in shape] == ["-1", "2"]


def test_grpc_predict(toy, predict):
    flow, x = toy
    response = predict("log_prob", {"x": x})
    log_prob = tf.make_ndarray(response.outputs["log_prob"])
    np.testing.assert_allclose(log_prob, flow.log_prob(x), rtol=2e-6)
    assert response.model_spec.version.value == 1
    # TF Serving fills the typed fields, and clients may read those.
    np.testing.assert_array_equal(response.outputs["log_prob"].float_val, log_prob)


def test_grpc_output_filter_and_version(toy, predict):
    response = predict("log_prob", {"x": toy[1]}, ["bits_per_dim"], version=1)
    assert list(response.outputs) == ["bits_per_dim"]


def test_grpc_metadata_and_status(channel):
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "flow"
    request.metadata_field.append("signature_def")
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    stub.GetModelMetadata(request).metadata["signature_def"].Unpack(definitions)
    assert "sample_batch" in definitions.signature_def
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "flow"
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    (line,) = stub.GetModelStatus(request).model_version_status
    assert (line.version, line.state) == (1, line.AVAILABLE)


WRONG_BODIES = [
    (b"", "expected JSON"),
    (b"{", "expected JSON"),
    (b"[" * 100_000, "expected JSON"),
    (b"\xff", "expected JSON"),
    (b"[1]", "expected a JSON object"),
    (b"{}", "expected one of `instances` and `inputs`"),
    (b'{"instances": [[1, 2]], "inputs": [[1, 2]]}', "expected one of"),
    (b'{"instances": [[1, 2]], "extra": 1}', "extra"),
    (b'{"instances": []}', "at least one row"),
    (b'{"instances": 3}', "at least one row"),
    (b'{"instances": [[1, 2], [1]]}', "x: expected lists of equal lengths"),
    (
        b'{"instances": [[1, "2"]]}',
        'x: expected numbers of dtype float32, received "2"',
    ),
    (
        b'{"instances": [[1, true]]}',
        "x: expected numbers of dtype float32, received true",
    ),
    (
        b'{"instances": [[1, null]]}',
        "x: expected numbers of dtype float32, received null",
    ),
    (b'{"instances": [[1, 1e39]]}', "x: expected numbers that float32 can hold"),
    (b'{"instances": [[1, NaN]]}', "x: expected finite numbers"),
    (b'{"instances": [[1, 1e999]]}', "x: expected finite numbers"),
    (b'{"instances": [[1, 2, 3]]}', "x: expected shape [batch, 2]"),
    (b'{"instances": [1, 2]}', "x: expected shape [batch, 2]"),
    (b'{"instances": [{"y": [1, 2]}]}', "in row 0"),
    (b'{"inputs": {}}', "expected exactly x, received none"),
    (b'{"inputs": {"x": [[1, 2]], "y": 1}}', "expected exactly x, received x, y"),
    (b'{"inputs": [[1, 2]], "signature_name": 3}', "expected a string"),
    (b'{"inputs": [[1, 2]], "signature_name": "no"}', "expected one of decode"),
    (
        b'{"signature_name": "sample", "inputs": {"n": 1.5, "seed": [1, 2], '
        b'"temperature": 1}}',
        "n: expected numbers of dtype int32, received 1.5",
    ),
    (
        b'{"signature_name": "sample", "inputs": {"n": 3000000000, "seed": [1, 2], '
        b'"temperature": 1}}',
        "n: expected numbers that int32 can hold",
    ),
]


@pytest.mark.parametrize(("body", "message"), WRONG_BODIES)
def test_rest_refuses_with_a_message(url, body, message):
    answer = requests.post(f"{url}:predict", data=body, timeout=60)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_rest_refuses_an_oversized_body(url):
    answer = requests.post(f"{url}:predict", data=b" " * (2**20 + 1), timeout=60)
    assert answer.status_code == 413
    assert "at most 1048576 bytes" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/flow", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", "/v1/models/flow/versions/9", 404),
        ("GET", "/v1/models/flow/versions/9/metadata", 404),
        ("POST", "/v1/models/flow/versions/9:predict", 404),
        ("POST", "/v1/models/flow", 405),
        ("POST", "/v1/models/flow/versions/x:predict", 404),
    ],
)
def test_rest_refuses_other_paths(toy_server, method, path, status):
    body = {"instances": [[0.5, 0.5]]}
    address = toy_server.rest_address + path
    answer = requests.request(method, address, json=body, timeout=60)
    assert answer.status_code == status
    assert answer.json()["error"]


WRONG_CALLS = [
    ("log_prob", {"x": np.zeros([1, 2])}, {}, "x: expected dtype float32"),
    ("log_prob", {"x": np.array([["a", "b"]])}, {}, "x: expected dtype float32"),
    ("log_prob", {"x": np.zeros([1, 3], np.float32)}, {}, "x: expected shape"),
    ("log_prob", {}, {}, "expected exactly x, received none"),
    ("log_prob", {"x": np.zeros([1, 2], np.float32), "y": 1}, {}, "received x, y"),
    ("nothing", {}, {}, "expected one of decode"),
]


@pytest.mark.parametrize(("signature", "inputs", "spec", "message"), WRONG_CALLS)
def test_grpc_refuses_with_a_message(predict, signature, inputs, spec, message):
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT") as refusal:
        predict(signature, inputs, **spec)
    assert message in refusal.value.details()


@pytest.mark.parametrize("spec", [{"name": "other"}, {"version": 9}])
def test_grpc_does_not_find_others(toy, predict, spec):
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        predict("log_prob", {"x": toy[1]}, **spec)


def test_grpc_refuses_tensors_that_only_claim_to_be_large(channel, predict_request):
    request = predict_request("log_prob", {})
    proto = request.inputs["x"]
    proto.dtype = tf.float32.as_datatype_enum
    proto.float_val.append(1.0)
    for size in (2**31, 2**31):
        proto.tensor_shape.dim.add(size=size)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT") as refusal:
        stub.Predict(request)
    assert "at most 1048576 bytes" in refusal.value.details()


def test_listens_on_this_machine_only_by_default(toy_server):
    assert toy_server.rest_address.startswith("http://127.0.0.1:")
    assert toy_server.grpc_address.startswith("127.0.0.1:")


def test_a_taken_port_is_named(toy_server, tmp_path):
    taken = toy_server.rest_port
    with pytest.raises(ValueError, match=f"Received: 127.0.0.1:{taken}"):
        LocalServer(tmp_path, rest_port=taken)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(ValueError, match="`base_path` must be a model's directory"):
        LocalServer(tmp_path / "nowhere")


def test_swaps_to_a_new_version_while_requests_run(toy, tmp_path, wait_for):
    flow, x = toy
    export_saved_model(flow, tmp_path / "flow", warmup=False)
    model = WatchedModel(tmp_path / "flow")
    model.poll()
    polling = threading.Thread(target=model.poll)
    with model.version() as old:
        export_saved_model(flow, tmp_path / "flow", warmup=False)
        polling.start()
        # The swap waits for this request; new requests do not wait for the swap.
        wanted = {2: "AVAILABLE", 1: "UNLOADING"}
        wait_for(lambda: {s.number: s.state for s in model.status()} == wanted)
        with model.version() as new:
            assert new.number == 2
        answer = old.run("log_prob", {"x": x})["log_prob"]
        np.testing.assert_allclose(answer, flow.log_prob(x), rtol=2e-6)
    polling.join(timeout=60)
    states = {line.number: line.state for line in model.status()}
    assert states == {2: "AVAILABLE", 1: "END"}
    model.close()


def test_a_broken_version_is_reported_and_the_old_one_goes_on(toy, tmp_path):
    flow, x = toy
    export_saved_model(flow, tmp_path / "flow", warmup=False)
    model = WatchedModel(tmp_path / "flow")
    model.poll()
    (tmp_path / "flow" / "2").mkdir()
    model.poll()
    model.poll()
    newest, current = model.status()
    assert (newest.number, newest.state) == (2, "END")
    assert newest.error
    assert (current.number, current.state) == (1, "AVAILABLE")
    with model.version() as loaded:
        assert loaded.number == 1
    # Without its bad version, the model is as it was.
    shutil.rmtree(tmp_path / "flow" / "2")
    model.poll()
    with model.version() as loaded:
        assert loaded.run("log_prob", {"x": x})["is_finite"].all()
    model.close()


def test_before_the_first_version_it_is_unavailable(tmp_path):
    with LocalServer(tmp_path, name="flow", poll_seconds=0.05) as server:
        url = f"{server.rest_address}/v1/models/flow"
        answer = requests.post(f"{url}:predict", json={"instances": [[1]]}, timeout=60)
        assert answer.status_code == 503
        assert "no version" in answer.json()["error"]


def test_stops_listening(toy, tmp_path):
    export_saved_model(toy[0], tmp_path / "flow", warmup=False)
    with LocalServer(tmp_path / "flow") as server:
        port = server.rest_port
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_answers_are_strict_json(url):
    body = {"instances": [[0.5, 0.5], [2.0, 2.0]]}
    answer = requests.post(f"{url}:predict", json=body, timeout=60)

    def refuse(token):
        raise AssertionError(token)

    rows = json.loads(answer.text, parse_constant=refuse)["predictions"]
    assert [row["is_finite"] for row in rows] == [True, False]
