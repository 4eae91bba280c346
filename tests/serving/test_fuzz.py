"""Malformed requests: each is answered with a message, and nothing else changes."""

import json
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

import tfp_flows as tfpf
from tfp_flows.serving import export_saved_model
from tfp_flows.serving.metadata import read_metadata
from tfp_flows.serving.protos import read_warmup

MAX_SAMPLES = 32
MAX_BYTES = 2**20


class Malformed:
    """Draws requests to one signature, each wrong in one way."""

    def __init__(self, inputs, specs, generator):
        self.right = {name: np.asarray(value) for name, value in inputs.items()}
        self.specs = specs
        self.generator = generator
        self.changes = [
            self.wrong_shape,
            self.wrong_dtype,
            self.missing,
            self.extra,
            self.wrong_value,
            self.empty,
        ]

    def draw(self):
        """Inputs of which exactly one thing is wrong."""
        return self.one_of(self.changes)(dict(self.right))

    def one_of(self, things):
        return things[self.generator.integers(len(things))]

    def wrong_shape(self, inputs):
        name = self.one_of(list(inputs))
        wanted = self.specs[name]["shape"]
        while True:
            rank = self.generator.integers(0, 5)
            shape = self.generator.integers(1, 5, size=rank).tolist()
            fits = len(shape) == len(wanted) and all(
                size in (None, given) for size, given in zip(wanted, shape, strict=True)
            )
            # Other inputs have one row, so that another number of rows is wrong too.
            rows_differ = len(inputs) > 1 and wanted[:1] == [None] and shape[:1] != [1]
            if not fits or rows_differ:
                break
        inputs[name] = np.ones(shape, inputs[name].dtype)
        return inputs

    def wrong_dtype(self, inputs):
        name = self.one_of(list(inputs))
        others = [np.dtype(kind) for kind in ("bool", "object", "complex64")]
        inputs[name] = np.zeros(inputs[name].shape, self.one_of(others))
        return inputs

    def missing(self, inputs):
        del inputs[self.one_of(list(inputs))]
        return inputs

    def extra(self, inputs):
        name = self.one_of(["y", "X", "", "x" * 300, "log_prob"])
        inputs[name] = np.ones([1], np.float32)
        return inputs

    def wrong_value(self, inputs):
        name = self.one_of(list(inputs))
        if name == "n":
            numbers = [0, -1, MAX_SAMPLES + 1, 2**31 - 1, -(2**31)]
            inputs["n"] = np.int32(self.one_of(numbers))
            return inputs
        if inputs[name].dtype.kind != "f":
            return self.wrong_shape(inputs)
        flat = inputs[name].ravel().copy()
        numbers = [np.nan, np.inf, -np.inf]
        flat[self.generator.integers(flat.size)] = self.one_of(numbers)
        inputs[name] = flat.reshape(inputs[name].shape)
        return inputs

    def empty(self, inputs):
        name = self.one_of(list(inputs))
        inputs[name] = inputs[name][..., np.newaxis][:0]
        return inputs


def as_rest_body(generator, signature, inputs):
    """A malformed request as the bytes of a REST request."""
    values = {name: as_json(value) for name, value in inputs.items()}
    body = json.dumps({"signature_name": signature, "inputs": values}).encode()
    match generator.integers(8):
        case 0:
            return body[: generator.integers(len(body))]
        case 1:
            return generator.bytes(generator.integers(1, 200))
        case 2:
            return b" " * (MAX_BYTES + 1)
        case 3:
            return json.dumps({"instances": [values, 1]}).encode()
    return body


def as_json(value):
    if value.dtype.kind == "c":
        return [{"real": 0.0}]
    if value.dtype.kind == "O":
        return np.full(value.shape, "text").tolist()
    return value.tolist()


def as_grpc_request(generator, predict_request, signature, inputs):
    """A malformed request as a message."""
    strings = {k: v.astype("S") for k, v in inputs.items() if v.dtype.kind == "O"}
    request = predict_request(signature, inputs | strings)
    if not request.inputs:
        return request
    proto = request.inputs[sorted(request.inputs)[0]]
    match generator.integers(8):
        case 0:
            proto.tensor_shape.dim.add(size=2**40)
        case 1:
            proto.tensor_shape.dim.add(size=-7)
        case 2:
            proto.tensor_content = generator.bytes(3)
        case 3:
            proto.dtype = int(generator.integers(0, 40))
            proto.tensor_shape.unknown_rank = True
        case 4:
            request.model_spec.signature_name = "nothing"
        case 5:
            request.output_filter.append("nothing")
    return request


class Attack:
    """Sends malformed requests to a server and counts the answers."""

    def __init__(self, rest_address, grpc_address, version, predict_request):
        self.predict_request = predict_request
        self.url = f"{rest_address}/v1/models/flow:predict"
        self.session = requests.Session()
        self.channel = grpc.insecure_channel(grpc_address)
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.right = dict(read_warmup(Path(version)))
        self.specs = read_metadata(version)["signatures"]
        self.specs["serving_default"] = self.specs["log_prob"]

    def right_answers(self):
        """The answers to right requests, as bytes."""
        answers = {}
        for signature, inputs in self.right.items():
            request = self.predict_request(signature, inputs)
            outputs = self.stub.Predict(request, timeout=60).outputs
            for name, proto in outputs.items():
                answers[signature, name] = tf.make_ndarray(proto).tobytes()
        return answers

    def run(self, signature, count):
        generator = np.random.default_rng(count)
        draws = Malformed(self.right[signature], self.specs[signature], generator)
        for index in range(count):
            inputs = draws.draw()
            if index % 2:
                self.ask_rest(as_rest_body(generator, signature, inputs))
            else:
                build = self.predict_request
                self.ask_grpc(as_grpc_request(generator, build, signature, inputs))

    def ask_rest(self, body):
        answer = self.session.post(self.url, data=body, timeout=60)
        assert 400 <= answer.status_code < 500, (answer.status_code, body[:300])
        assert is_message(answer.json()["error"]), answer.text

    def ask_grpc(self, request):
        with pytest.raises(grpc.RpcError) as refusal:
            self.stub.Predict(request, timeout=60)
        assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT, request
        assert is_message(refusal.value.details()), refusal.value.details()

    def close(self):
        self.session.close()
        self.channel.close()


def is_message(text):
    """Whether it reads `what: expected this, received that.`, on one line."""
    starts = text.split(":")[0]
    return len(starts) < 320 and "expected" in text and "\n" not in text


PYTHON = (sys.executable, "-W", "ignore", "-c")
SERVE = """
import sys
from tfp_flows.serving.server import (LocalServer)
with LocalServer(sys.argv[1], max_bytes=int(sys.argv[2])) as server:
    print(server.rest_address, server.grpc_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    model = tfpf.FlowModel(tfpf.nice((2, 2, 1), couplings=2, hidden_units=(8,)))
    scorer = tfpf.anomaly.TypicalityScorer()
    normal = model.sample(100, seed=0)
    tfpf.anomaly.fit_scorer(model, scorer, normal, false_alarm_rate=0.1)
    base = tmp_path_factory.mktemp("models") / "flow"
    return export_saved_model(model, base, max_samples=MAX_SAMPLES)


@pytest.fixture(scope="module")
def server_process(version, predict_request):
    """A server in a process of its own, whose memory can be measured."""
    process = subprocess.Popen(
        [*PYTHON, SERVE, Path(version).parent, str(MAX_BYTES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    rest_address, grpc_address = process.stdout.readline().split()
    attack = Attack(rest_address, grpc_address, version, predict_request)
    yield process, attack
    attack.close()
    process.communicate("", timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_malformed_requests_are_refused_and_change_nothing(server_process, count):
    process, attack = server_process
    before = attack.right_answers()
    for signature in attack.right:
        attack.run(signature, count // 10)
    memory = psutil.Process(process.pid).memory_info().rss
    for signature in attack.right:
        attack.run(signature, count)
    grown = psutil.Process(process.pid).memory_info().rss
    print(
        f"{count} malformed requests to each of {', '.join(attack.right)}: memory "
        f"{memory / 2**20:.1f} -> {grown / 2**20:.1f} MB"
    )
    assert process.poll() is None
    assert attack.right_answers() == before
    assert grown < 1.05 * memory
