"""Chooses the device and the precision, each with the reason for the user."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import torch

from segcli.errors import UsageError

DEVICES = ("auto", "cpu", "cuda", "mps", "gpu")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BF16_LOSS_ALLOWED = 0.1  # points of the checkpoint's own metric


@dataclass(frozen=True)
class DeviceChoice:
    """A device and why it was taken, for one line to the user."""

    device: torch.device
    reason: str
    no_gpu: str = ""  # why it is the CPU, if nobody asked for it


def choose_device(name: str = "auto") -> DeviceChoice:
    """The device asked for, or the fastest one here: CUDA, then Apple's MPS, then the CPU.

    Raises UsageError for a named device that this machine lacks: it is never silently replaced.
    """
    kind, colon, number = name.partition(":")
    if kind not in DEVICES or (colon and (kind != "cuda" or not number.isdecimal())):
        raise UsageError(f"--device {name}: choose one of {', '.join(DEVICES)}, or a GPU by its number: cuda:1")
    given = name
    missing = {"cuda": _no_cuda(), "mps": _no_mps(), "cpu": None}
    if name == "gpu":
        name = kind = "mps" if missing["cuda"] and not missing["mps"] else "cuda"
    if kind != "auto":
        if reason := missing[kind] or _no_number(number):
            raise UsageError(f"--device {given}: {reason}; use --device cpu, or auto to take what is here")
        return DeviceChoice(torch.device(name), f"{_describe(name)}, as asked")
    for best in ("cuda", "mps"):
        if not missing[best]:
            return DeviceChoice(torch.device(best), f"{_describe(best)}, the fastest here")
    reason = _describe("cpu") + (f"; no GPU: {missing['cuda']}" if _has_gpu() else "")
    return DeviceChoice(torch.device("cpu"), reason, f"no GPU: {missing['cuda']}")


def choose_dtype(name: str, device: torch.device, bf16_loss: float | None = None) -> torch.dtype:
    """The precision asked for; `auto` is fp32 unless bf16 is both fast here and known to be harmless.

    bf16_loss: points of its published metric that the checkpoint was measured to lose in bf16, if it was measured.
    Raises UsageError for an unknown name.
    """
    if name == "auto":
        harmless = bf16_loss is not None and bf16_loss <= BF16_LOSS_ALLOWED
        return torch.bfloat16 if harmless and has_native_bf16(device) else torch.float32
    if name not in DTYPES:
        raise UsageError(f"--dtype {name}: choose one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware; emulated it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Private in torch, present since 2.4 under one name or the other; absent means no.
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)
    return False


def _no_cuda() -> str | None:
    """Why CUDA cannot be used, None if it can."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return "this PyTorch is built without CUDA"
    return "PyTorch finds no CUDA device"


def _no_number(number: str) -> str | None:
    """Why the GPU of that number cannot be used, None if it can (or none is named)."""
    count = torch.cuda.device_count() if number else 0
    return f"there are {count} of them, counted from 0" if number and int(number) >= count else None


def _has_gpu() -> bool:
    """Whether the machine has a GPU that PyTorch could use if it were built for it, or the driver were in order."""
    drivers = ("/dev/nvidiactl", "/dev/kfd")
    return any(map(os.path.exists, drivers)) or shutil.which("nvidia-smi") is not None


def _no_mps() -> str | None:
    """Why Apple's GPU cannot be used, None if it can."""
    if torch.backends.mps.is_available():
        return None
    return "MPS needs a Mac with an Apple GPU and macOS 12.3 or newer"


def _describe(name: str) -> str:
    if name.startswith("cuda"):
        return f"{name} ({torch.cuda.get_device_name(torch.device(name))})"
    if name == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'s' * (threads != 1)})"
    return name


def name_of(dtype: torch.dtype) -> str:
    """A precision as --dtype calls it."""
    return next(name for name, known in DTYPES.items() if known == dtype)
