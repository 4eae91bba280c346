"""A program's arguments and results in a few small files. It imports only NumPy.

An exported step of a large flow has gigabytes of weights and optimizer slots. Large
kernels are therefore drawn from a seed, on both sides alike; slots are zeros; only the
rest is stored. Of each result an evenly spaced sample is kept.
"""

import zlib

import numpy as np

SAMPLE = 4096  # values kept of each result


def drawn(draw, shape):
    """Returns normal values that depend on nothing but the arguments."""
    rng = np.random.default_rng(draw["seed"])
    return rng.standard_normal(shape, np.float32) * np.float32(draw["scale"])


def described(values, draws):
    """Returns a description of each array, and the arrays that must be stored.

    Args:
        values: The arrays.
        draws: For those that were `drawn`, by number, how.
    """
    descriptions, stored = [], {}
    for index, value in enumerate(values):
        if index in draws:
            how = {"draw": draws[index], "crc32": _crc32(value)}
        elif value.size > 1 and not value.any():
            how = {"zeros": True}
        else:
            how, stored[f"a{index}"] = {}, value
        descriptions.append({"shape": value.shape, "dtype": value.dtype.name, **how})
    return descriptions, stored


def remade(descriptions, stored):
    """Returns the arrays that were described."""
    return [
        _remade(description, stored, index)
        for index, description in enumerate(descriptions)
    ]


def _remade(description, stored, index):
    if description.get("zeros"):
        return np.zeros(description["shape"], description["dtype"])
    if "draw" not in description:
        return stored[f"a{index}"]
    value = drawn(description["draw"], description["shape"])
    if _crc32(value) != description["crc32"]:
        raise ValueError(
            "Arguments must be drawn alike on both sides, but NumPy "
            f"{np.__version__} draws other values than the exporting machine's. "
            f"Received: another checksum for argument {index}"
        )
    return value


def _crc32(value):
    return zlib.crc32(np.ascontiguousarray(value).tobytes())


def sample(value):
    """Returns at most about `SAMPLE` values, evenly spaced."""
    flat = np.ravel(value)
    return flat[:: max(1, flat.size // SAMPLE)]


def errors(before, after, expected):
    """Compares samples of results, each as a share of the change that was expected.

    Weights hardly change in a step: an error that is small beside a weight may be
    large beside its update. Optimizer slots start from zero, and show the gradients.

    Args:
        before: For each result, what the step found in its place, or None.
        after: The results.
        expected: What they should be.

    Returns:
        For each result `|after - expected| / |expected - before|`, in Euclidean norms.
    """
    return [
        _error(0.0 * e if b is None else b, a, e)
        for b, a, e in zip(before, after, expected, strict=True)
    ]


def _error(before, after, expected):
    before, after, expected = (np.float64(v) for v in (before, after, expected))
    wrong = np.linalg.norm(after - expected)
    change = np.linalg.norm(expected - before)
    if change == 0.0:
        change = np.linalg.norm(expected) or 1.0
    # A change below the rounding of what is changed says nothing.
    return float(wrong / max(change, 1e-7 * np.linalg.norm(expected)))
