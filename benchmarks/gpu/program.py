"""An exported step as a program that JAX's compiler runs. Needs jaxlib, no TensorFlow.

What is imported from `jax._src` and `jaxlib._jax` is private to JAX: this was written
for jaxlib 0.10.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir
from jax._src.lib.mlir.dialects import hlo
from jaxlib import _jax, xla_client

# On NVIDIA's cards XLA takes TF32 for float32 operands of the default precision.
PRECISION = {"float32": "HIGHEST", "tf32": "DEFAULT"}
PRODUCTS = ("stablehlo.dot_general", "stablehlo.dot", "stablehlo.convolution")


@dataclasses.dataclass
class Program:
    """A compiled step.

    Attributes:
        executable: What the device runs.
        device: Where.
        products: How many matrix products and convolutions had their precision set.
        text: The module that was compiled, readable.
    """

    executable: Any
    device: Any
    products: int
    text: str

    def __call__(self, arguments):
        """Starts a step and returns its results, which may not be there yet."""
        results = self.executable.execute_sharded(arguments)
        return [r[0] for r in results.disassemble_into_single_device_arrays()]

    def put(self, values):
        """Copies arrays to the device."""
        return jax.block_until_ready([jax.device_put(v, self.device) for v in values])


def compiled(raw, precision, portable=False):
    """Compiles a serialized `HloModuleProto` for JAX's first device.

    Args:
        raw: The bytes.
        precision: `"float32"` or `"tf32"`: of products of float32 values.
        portable: Whether to take the module through the portable form in which
            JAX hands it to a plugin, such as the one for CUDA.
    """
    context = mlir.make_ir_context()
    with context:
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(raw))
        drop_copies(module)
        products = set_precision(module, PRECISION[precision])
        if portable:
            module = through_portable_form(module, context)
        device = jax.devices()[0]
        options = xla_client.CompileOptions()
        options.num_replicas = options.num_partitions = 1
        options.executable_build_options.device_assignment = (
            xla_client.DeviceAssignment.create(np.array([[device.id]]))
        )
        executable = device.client.compile_and_load(
            module,
            executable_devices=_jax.DeviceList((device,)),
            compile_options=options,
        )
        return Program(executable, device, products, str(module))


def operations(module):
    """Lists all operations, those inside loops and branches too."""
    found = []

    def visit(operation):
        found.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found


def drop_copies(module):
    """Removes the identities through which TensorFlow writes its variables.

    They belong to a dialect that has no portable form.
    """
    for operation in operations(module):
        if operation.name == "mhlo.copy":
            operation.results[0].replace_all_uses_with(operation.operands[0])
            operation.erase()


def set_precision(module, precision):
    """Sets the precision of all products; returns how many there are."""
    found = [o for o in operations(module) if o.name in PRODUCTS]
    each = hlo.PrecisionAttr.get(precision)
    for operation in found:
        operation.attributes["precision_config"] = ir.ArrayAttr.get([each, each])
    return len(found)


def through_portable_form(module, context):
    version = hlo.get_current_version()
    portable = _jax.mlir.serialize_portable_artifact(module, version, False)
    back = _jax.mlir.deserialize_portable_artifact(portable, context)
    return ir.Module.parse(back) if isinstance(back, bytes | str) else back
