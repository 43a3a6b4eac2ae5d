"""How much memory training takes, and how many images fit."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from segcli.inference.predict import is_out_of_memory

OUT_OF_MEMORY = (
    "not enough memory; smaller steps: --batch 1 --accumulate N (the same gradient from smaller pieces), --crop, "
    "--dtype bf16, --points, --queries, --freeze backbone; --batch auto finds what fits"
)
_SHARE = 0.7  # of the free memory that is used
_MOST = 64


def peak_memory(device: torch.device) -> int | None:
    """The most bytes used so far, of the GPU or else of this process; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _memory_now(device: torch.device) -> int:
    """Bytes in use now; where the system does not say, the peak so far.

    Reading the data may have needed more than a step does, so that the peak would hide what a step needs.
    """
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_memory(device) or 0


def keep_freed_memory() -> None:
    """Make this process keep the memory it frees, as the next step needs just as much.

    glibc gives large blocks back to the system at once, and getting them again costs a page fault every 4 KiB: a tenth
    of a training step on a CPU. Elsewhere this does nothing. The values are those of <malloc.h>.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if set_option is not None:
        set_option(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        set_option(-1, -1)  # M_TRIM_THRESHOLD: never shrink


def free_memory(device: torch.device) -> int | None:
    """Bytes that are still free; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limit = _container_limit()
    available = None
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    if available is None and hasattr(os, "sysconf"):
        with contextlib.suppress(OSError, ValueError):
            available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    known = [value for value in (available, limit) if value is not None]
    return min(known) if known else None


def _container_limit() -> int | None:
    """Bytes that the control group (a container's limit) still allows."""
    folder = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        return int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text())
    return None


def largest_batch(attempt: Callable[[int], None], device: torch.device, most: int = _MOST) -> int:
    """The largest batch, a power of two, that fits into memory.

    attempt(n) runs one step of n images and learns nothing. Memory grows linearly with n, so 1 and 2 images predict the
    rest, with a margin; on a GPU the prediction is tried out too, because memory there fragments.
    """
    free = free_memory(device)
    if free is None:
        return 1
    before = _memory_now(device)
    taken = []
    for images in (1, 2):
        try:
            attempt(images)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return max(1, images - 1)
        taken.append((peak_memory(device) or 0) - before)
    each = max(taken[1] - taken[0], taken[1] // 2, 1)
    batch = 1
    while batch * 2 <= most and taken[0] + each * (batch * 2 - 1) <= _SHARE * free:
        batch *= 2
    while device.type == "cuda" and batch > 1:
        try:
            attempt(batch)
            break
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            batch //= 2
    return batch
