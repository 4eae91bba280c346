"""Large batches in parts that fit the caches."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc refuses more on 64-bit machines


def hold_memory(megabytes: int = 1024) -> bool:
    """Lets this process keep the memory that it frees, up to a limit.

    TensorFlow on a CPU takes every intermediate value from the C library's `malloc`.
    By its defaults glibc returns large blocks to the system as soon as they are free,
    and the next step pays for each of their pages again: 256 faults a megabyte, and as
    many pages to fill with zeros. Large batches through small networks can spend half
    of their time on that. With this the pages stay, at the price of a process that
    does not shrink until it ends.

    Call it once, before the first large step. The command line does. Figures are made
    by `python -m benchmarks profile`.

    Args:
        megabytes: The most unused memory that is kept at the end of the heap.

    Returns:
        Whether the C library has these settings and took them: glibc has, macOS's and
        musl have not, and nothing changes there.

    Raises:
        ValueError: If `megabytes` is not positive.
    """
    if megabytes <= 0:
        raise ValueError(
            f"Argument `megabytes` must be positive. Received: megabytes={megabytes}"
        )
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Two calls, for either alone leaves the other's blocks to come and go.
    trim = min(megabytes << 20, 2**31 - 1)
    return bool(
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        and mallopt(_TRIM_THRESHOLD, trim)
    )
