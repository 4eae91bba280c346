"""Times training steps of normflows and nflows on a GPU, in every way PyTorch offers.

    python benchmarks/gpu/torch_peers.py --workload W3

Needs PyTorch and the libraries, no TensorFlow. The flows are those of
`benchmarks.speed`, with as many weights as this package's.
"""

import argparse
import contextlib
import gc
import itertools
import sys
import time
import traceback
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu import timing
from benchmarks.gpu.workloads import PRECISIONS, WORKLOADS, network_flops, workload
from benchmarks.speed.adapters.torch_steps import batches
from benchmarks.speed.workloads import LEARNING_RATE, Unsupported

LIBRARIES = ("normflows", "nflows")
WAYS = ("eager", "compile", "channels_last", "compile channels_last")


def flow_of(library, w):
    """Returns a library's flow, as in the speed benchmark, and its log-likelihood."""
    if library == "nflows":
        from benchmarks.speed.adapters import nflows

        module = nflows.flow(w)
        return module, module.log_prob
    from benchmarks.speed.adapters import normflows

    if w.kind != "glow":
        module = normflows.vector(w)
        return module, module.log_prob
    module = normflows.glow(w)
    return module, lambda x: module.log_prob(x, None)


class Training:
    """A flow, its optimizer and its batch on a device."""

    def __init__(self, library, w, way, precision, device):
        torch.manual_seed(0)
        images = w.kind == "glow"
        if not images and "channels_last" in way:
            raise Unsupported
        module, log_prob = flow_of(library, w)
        layout = (
            torch.channels_last if "channels_last" in way else torch.contiguous_format
        )
        self.module = module.to(device, memory_format=layout)
        self.x = batches(w, images)[0].to(device, memory_format=layout)
        self.device = device
        # Autocast leaves weights and optimizer in float32, as Keras's policy does.
        self.autocast = precision == "bfloat16"
        with torch.no_grad():  # initializes actnorm, which must not be compiled
            log_prob(self.x)

        def loss(x):
            return -log_prob(x).mean()

        self.loss = torch.compile(loss) if "compile" in way else loss
        self.optimizer = torch.optim.Adam(
            module.parameters(), LEARNING_RATE, fused=device.type == "cuda"
        )

    def step(self):
        """Starts a step of training; returns its loss."""
        self.optimizer.zero_grad()
        cast = (
            torch.autocast(self.device.type, torch.bfloat16)
            if self.autocast
            else contextlib.nullcontext()
        )
        with cast:
            loss = self.loss(self.x)
        loss.backward()
        self.optimizer.step()
        return loss

    def wait(self, loss):
        """Returns when the device has nothing left to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return loss

    def weights(self):
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad)


def run(library, w, way, precision, device, seconds, size=None, small=False, gate=None):
    """Times one library in one way; returns the result."""
    if "compile" not in way:  # nothing to do before its turn
        timing.wait_for_turn(gate)
    tf32 = precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True  # as XLA does, it tries the kernels
    torch._dynamo.reset()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    training = Training(library, w, way, precision, device)
    start = time.perf_counter()
    training.wait(training.step())
    first = time.perf_counter() - start
    if "compile" in way:
        timing.wait_for_turn(gate)
    times = timing.step_times(training.step, training.wait, seconds)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None
    loss = training.step().item()
    rate = matmul_rate(device, precision, size or timing.matmul_size(on_gpu))
    return {
        **facts(library, w, way, precision, device, small),
        "weights": training.weights(),
        "first_step_seconds": first,
        "loss": loss,
        "peak_mb": peak,
        **timing.with_rates(times, w.train_batch, network_flops(w), rate),
        "counted_flops": counted_flops(training) if way == "eager" else None,
    }


def facts(library, w, way, precision, device, small):
    """Says what is timed, and where."""
    on_gpu = device.type == "cuda"
    return {
        "library": library,
        "workload": w.name,
        "way": way,
        "precision": precision,
        "batch": w.train_batch,
        "small": small,
        "platform": "gpu" if on_gpu else device.type,
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "versions": f"torch {torch.__version__}",
    }


def counted_flops(training):
    """Returns the products that PyTorch counts in a step."""
    with FlopCounterMode(display=False) as counter:
        training.step()
    return counter.get_total_flops()


def matmul_rate(device, precision, size):
    """Measures a large product in the same process and precision."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def wait(_):
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return timing.matmul_rate(lambda: a @ b, wait, size)


def main():
    """Runs what the command line asks for, each combination in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS
    )
    parser.add_argument("--batch", type=int, help="examples in a step")
    parser.add_argument("--small", action="store_true", help="shrunk, for a test")
    parser.add_argument("--cpu", action="store_true", help="run without a GPU")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--matmul-size", type=int)
    parser.add_argument("--gate", type=Path, help="of `together`: wait for a turn")
    parser.add_argument("--results", type=Path, default=timing.RESULTS)
    options = parser.parse_args()
    if not (options.cpu or torch.cuda.is_available()):
        sys.exit("PyTorch sees no GPU here; pass --cpu to try the script without one.")
    device = torch.device("cpu" if options.cpu else "cuda")
    w = workload(options.workload, options.small, options.batch)
    errors = 0
    for combination in itertools.product(
        options.libraries, options.ways, options.precisions
    ):
        result = attempt(*combination, w, device, options)
        if result is not None:
            timing.write(result, options.results)
            errors += "error" in result
        gc.collect()
    sys.exit(1 if errors else 0)


def attempt(library, way, precision, w, device, options):
    """Times one combination; returns the result, an error, or None if it is absurd."""
    arguments = library, w, way, precision, device
    try:
        return run(
            *arguments,
            options.seconds,
            options.matmul_size,
            options.small,
            options.gate,
        )
    except Unsupported:
        print(library, w.name, way, precision, "does not apply.")
        return None
    except Exception as error:  # out of memory in one way leaves the others
        traceback.print_exc()
        words = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return facts(*arguments, options.small) | {"error": words}


if __name__ == "__main__":
    main()
