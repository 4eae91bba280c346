"""Fixtures of the serving tests: small flows, and a C program that runs exports."""

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_serving.apis import predict_pb2

from tfp_flows.serving import export_saved_model
from tfp_flows.serving.server import LocalServer

tfb, tfd = tfp.bijectors, tfp.distributions

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


def build_with_gcc(source: Path, program: Path) -> None:
    """Compiles a C file against the installed TensorFlow, with no Python in it."""
    library = Path(tf.sysconfig.get_lib())
    linker = ["-fuse-ld=gold"] if shutil.which("ld.gold") else []
    subprocess.run(
        [
            "gcc",
            *["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"],
            f"-I{REPOSITORY / 'export' / 'cpp'}",
            f"-I{tf.sysconfig.get_include()}",
            *[str(source), "-o", str(program), f"-L{library}", *linker],
            *["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"],
            f"-Wl,-rpath,{library}",
            "-Wl,--unresolved-symbols=ignore-in-shared-libs",
        ],
        check=True,
        timeout=300,
    )


class RunnerError(Exception):
    """The C library refused a request; `code` is its status code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Runner:
    """A C program with one exported version loaded, spoken to through pipes."""

    def __init__(self, program: Path, version: str) -> None:
        self.process = subprocess.Popen(
            [str(program), str(version)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        code, message = self._u32(), self._name()
        if code:
            self.close()
            raise RunnerError(code, message)

    def run(self, signature: str, **inputs) -> dict[str, np.ndarray]:
        """Runs a signature on arrays; their dtypes are sent as they are."""
        request = [_packed_name(signature), struct.pack("<I", len(inputs))]
        for name, value in inputs.items():
            request += [_packed_name(name), _packed_tensor(np.asarray(value))]
        self.process.stdin.write(b"".join(request))
        self.process.stdin.flush()
        if code := self._u32():
            raise RunnerError(code, self._name())
        (self.nanoseconds,) = struct.unpack("<Q", self._read(8))
        return {self._name(): self._tensor() for _ in range(self._u32())}

    def close(self) -> int:
        """Ends the program and returns its exit status."""
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(timeout=300)

    def _read(self, size: int) -> bytes:
        data = self.process.stdout.read(size)
        if len(data) != size:
            raise EOFError(f"The C program ended with {self.process.wait()}.")
        return data

    def _u32(self) -> int:
        return struct.unpack("<I", self._read(4))[0]

    def _name(self) -> str:
        return self._read(self._u32()).decode()

    def _tensor(self) -> np.ndarray:
        dtype = tf.as_dtype(self._u32()).as_numpy_dtype
        rank = self._u32()
        shape = struct.unpack(f"<{rank}q", self._read(8 * rank))
        (size,) = struct.unpack("<Q", self._read(8))
        return np.frombuffer(self._read(size), dtype).reshape(shape)


def _packed_name(name: str) -> bytes:
    return struct.pack("<I", len(name.encode())) + name.encode()


def _packed_tensor(value: np.ndarray) -> bytes:
    dtype = tf.as_dtype(value.dtype).as_datatype_enum
    head = struct.pack(
        f"<II{value.ndim}qQ", dtype, value.ndim, *value.shape, value.nbytes
    )
    return head + np.ascontiguousarray(value).tobytes()


@pytest.fixture(scope="session")
def build_c():
    """The function that compiles a C file, `build_c(source, program)`."""
    return build_with_gcc


@pytest.fixture(scope="session")
def runner_program(tmp_path_factory):
    """Path of the compiled C program."""
    program = tmp_path_factory.mktemp("runner") / "runner"
    build_with_gcc(HERE / "runner.c", program)
    return program


@pytest.fixture
def c_runner(runner_program):
    """Starts the C program on a version directory."""
    runners = []

    def start(version: str) -> Runner:
        runners.append(Runner(runner_program, version))
        return runners[-1]

    yield start
    for runner in runners:
        runner.close()


def toy_flow() -> tfd.TransformedDistribution:
    """A flow over the open unit square, of TFP's parts and `tf.Variable`s alone."""
    return tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(tf.Variable([0.5, -0.5]), tf.Variable([1.0, 2.0])),
        tfb.Chain(
            [
                tfb.Sigmoid(),
                tfb.Shift(tf.Variable([0.3, -0.2])),
                tfb.Scale(tf.Variable([0.7, 1.5])),
            ]
        ),
    )


@contextlib.contextmanager
def running_publisher(base):
    """A process that forks children which export without end."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(HERE / "publisher.py"), str(base)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout.readline() == "ready\n"

    children = []

    def start_child():
        process.stdin.write("go\n")
        process.stdin.flush()
        children.append(int(process.stdout.readline()))
        return children[-1]

    try:
        yield start_child
    finally:
        for child in children[-1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=300)


@pytest.fixture
def publisher():
    """`with publisher(base) as start_child: pid = start_child()`."""
    return running_publisher


@pytest.fixture(scope="session")
def toy():
    """The toy flow and a batch of its data, kept for the whole session."""
    flow = toy_flow()
    return flow, flow.sample(16, seed=(1, 2)).numpy()


@pytest.fixture(scope="session")
def toy_version(toy, tmp_path_factory):
    """Path of the exported toy flow, with at most 64 samples in a request."""
    base = tmp_path_factory.mktemp("models") / "flow"
    return export_saved_model(toy[0], base, max_samples=64)


@pytest.fixture(scope="session")
def toy_server(toy_version):
    """A local server of the toy flow, of requests of at most 1 MiB."""
    with LocalServer(Path(toy_version).parent, max_bytes=2**20) as running:
        yield running


@pytest.fixture(scope="session")
def predict_request():
    """The function that makes a gRPC request from inputs."""

    def build(signature, inputs, name="flow"):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = signature
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        return request

    return build


@pytest.fixture(scope="session")
def wait_for():
    """The function that waits until a condition holds, and fails if it never does."""

    def wait(condition, seconds=180.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"nothing happened for {seconds} s"
            time.sleep(0.002)

    return wait


@pytest.fixture(scope="session")
def draw():
    """The function that makes the inputs of the signature `sample`."""

    def inputs(n=1, seed=(1, 2), temperature=1.0):
        return {
            "n": np.int32(n),
            "seed": np.int32(seed),
            "temperature": np.float32(temperature),
        }

    return inputs


@pytest.fixture(scope="session")
def shaken():
    """Moves the weights of a flow away from their zero-initialized start."""

    def shake(flow, scale=0.1):
        generator = np.random.default_rng(0)
        for variable in flow.trainable_variables:
            noise = generator.normal(scale=scale, size=variable.shape)
            variable.assign_add(noise.astype(tf.as_dtype(variable.dtype).name))
        return flow

    return shake
