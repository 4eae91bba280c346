"""New versions under constant load: no request fails, no half version is seen."""

import contextlib
import os
import random
import signal
import threading
import time

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tfp_flows.serving.server import LocalServer
from tfp_flows.serving.versions import existing_versions

X = np.float32([[0.25, 0.75]])


class Load:
    """Threads that send right requests until they are stopped."""

    def __init__(self, server, request):
        self.server, self.request = server, request
        self.stopping = threading.Event()
        self.failures, self.versions, self.answered = [], set(), 0
        self.threads = [
            threading.Thread(target=self.work, args=(ask,))
            for ask in (self.rest, self.grpc)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=60)

    def work(self, ask):
        while not self.stopping.is_set():
            try:
                log_prob = ask()
                np.testing.assert_allclose(log_prob, self.expected, rtol=1e-5)
                self.answered += 1
            except Exception as error:
                self.failures.append(repr(error))
            time.sleep(0.005)

    @property
    def expected(self):
        # Two standard normals behind a sigmoid, as the publisher exports them.
        logit = np.log(X / (1 - X))
        normal = -0.5 * (logit**2 + np.log(2 * np.pi))
        return (normal - np.log(X * (1 - X))).sum(axis=1)

    def rest(self):
        url = f"{self.server.rest_address}/v1/models/flow:predict"
        answer = requests.post(url, json={"instances": X.tolist()}, timeout=60)
        answer.raise_for_status()
        return [row["log_prob"] for row in answer.json()["predictions"]]

    def grpc(self):
        with grpc.insecure_channel(self.server.grpc_address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            answer = stub.Predict(self.request, timeout=60)
        self.versions.add(answer.model_spec.version.value)
        return tf.make_ndarray(answer.outputs["log_prob"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("publishes", "kills"),
    [(3, 1), (100, 20)],
)
def test_no_request_fails_while_versions_are_published_and_publishers_killed(
    tmp_path, publisher, predict_request, wait_for, publishes, kills
):
    base = tmp_path / "flow"
    generator = random.Random(publishes)
    with contextlib.ExitStack() as stack:
        start_child = stack.enter_context(publisher(base))
        child = start_child()
        wait_for(lambda: existing_versions(base))
        server = stack.enter_context(LocalServer(base, poll_seconds=0.05))
        load = stack.enter_context(Load(server, predict_request("", {"x": X})))
        for kill in range(kills):
            for count in range(1 + publishes * (kill + 1) // kills):
                wait_for(lambda n=count: len(existing_versions(base)) > n)
            time.sleep(generator.uniform(0.0, 1.0))
            os.kill(child, signal.SIGKILL)
            if kill + 1 < kills:
                child = start_child()
        published = existing_versions(base)
        last = published[-1]
        wait_for(lambda: last in load.versions)
    print(
        f"{len(published)} versions published, {kills} publishers killed: "
        f"{load.answered} requests answered by {len(load.versions)} versions, "
        f"{len(load.failures)} failed"
    )
    assert load.failures == []
    assert load.answered > 10 * publishes
    assert len(published) > publishes
    assert len(load.versions) > 1, "no swap was seen"
    assert [line for line in server.model.status() if line.error] == []
    sizes = {len(list((base / str(number)).rglob("*"))) for number in published}
    assert len(sizes) == 1, "some version has fewer files than others"
