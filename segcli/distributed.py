"""Several processes that train one model: torch's process groups, whether `launch` or torchrun started them.

Gradients are summed, not averaged: the loss of every rank is already divided by what all ranks hold together. They go
in a few flat pieces after the last micro-batch, so that parameters without a gradient and skipped batches need no care.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from segcli.errors import SegcliError, UsageError

PIECE = 64 << 20  # bytes of gradients that travel together
STOPPED = (130, 143)  # exit codes of a rank that was told to stop and has saved
GRACE = 10.0  # seconds between telling a rank to stop and ending it
PATIENCE = timedelta(hours=2)  # rank 0 writes and scans while the others wait


@dataclass(frozen=True)
class Ranks:
    """This process among its peers."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """The one rank that writes and prints."""
        return self.rank == 0

    def sum(self, values: Iterable[float]) -> list[float]:
        """Element-wise sum over the ranks, in float64."""
        numbers = list(values)
        if self.size == 1:
            return numbers
        tensor = torch.tensor(numbers, dtype=torch.float64, device=_device())
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Every gradient becomes the sum over the ranks; one that is missing here counts as zero."""
        if self.size == 1:
            return
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        for piece in _pieces([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([g.reshape(-1) for g in piece])
            dist.all_reduce(flat)
            for gradient, summed in zip(piece, flat.split([g.numel() for g in piece]), strict=True):
                gradient.copy_(summed.view_as(gradient))

    def share_weights(self, *modules: nn.Module) -> None:
        """Every rank takes the first one's weights and buffers."""
        if self.size > 1:
            for tensor in (t for module in modules for t in module.state_dict().values()):
                dist.broadcast(tensor, 0)

    def gather(self, value: Any) -> list[Any]:
        """The ranks' values, in order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """The first rank's value."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, 0)
        return values[0]


def _pieces(tensors: list[Tensor]) -> Iterable[list[Tensor]]:
    piece: list[Tensor] = []
    size = 0
    for tensor in tensors:
        piece.append(tensor)
        size += tensor.numel() * tensor.element_size()
        if size >= PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def is_worker() -> bool:
    """Whether a launcher (torchrun, or `launch`) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(device: str) -> Ranks:
    """Join the process group that the environment describes (RANK, WORLD_SIZE, …); alone if there is none."""
    if not is_worker():
        return Ranks()
    cuda = device.split(":")[0] in ("auto", "cuda") and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Leave the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def launch(devices: int, arguments: list[str], device: str) -> int:
    """Run this command once a device, and return the first exit code that is not 0.

    device: what the ranks compute on, as `join` takes it. Signals reach every rank: those of a terminal by themselves,
    others are passed on. When a rank fails the others are ended, which would wait for it for ever.
    """
    # Not torch.distributed's elastic launch (torchrun), which works too where the user calls it: it kills ranks 30
    # seconds after a signal, in the middle of a checkpoint if that takes longer, and no setting of torch 2.4 changes
    # this; it sends a Ctrl-C on to ranks that the terminal has told already, and a second signal is meant to end
    # them; and its exit code is 1 whatever happened, where scripts rely on 130 and 143.
    if device in ("auto", "cuda") and torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise UsageError(f"--devices {devices}: there are {torch.cuda.device_count()} CUDA devices here")
    threads = max(1, (os.cpu_count() or 1) // devices)
    shared = {"WORLD_SIZE": devices, "LOCAL_WORLD_SIZE": devices, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _port()}
    command = [sys.executable, "-m", "segcli", *arguments]
    ranks = [
        subprocess.Popen(
            command,
            env={"OMP_NUM_THREADS": str(threads)}
            | os.environ
            | {key: str(value) for key, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()},
        )
        for rank in range(devices)
    ]

    def pass_on(number: int, _: Any) -> None:
        for process in ranks:
            if process.poll() is None:
                process.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM,)}
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal has told the ranks already
    try:
        return _wait(ranks)
    finally:
        signal.signal(signal.SIGINT, ignored)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(ranks: list[subprocess.Popen[bytes]]) -> int:
    """The first exit code that is not 0. After a failure the other ranks are told to stop, then killed."""
    failed_at: float | None = None
    code = 0
    while any(process.poll() is None for process in ranks):
        time.sleep(0.05)
        code = code or next((process.returncode for process in ranks if process.returncode), 0)
        if not code or code in STOPPED:  # who was told to stop still writes
            continue
        failed_at = failed_at or time.monotonic()
        for process in ranks:
            if process.poll() is None:
                process.kill() if time.monotonic() - failed_at > GRACE else process.terminate()
        time.sleep(0.5)
    code = code or next((process.returncode for process in ranks if process.returncode), 0)
    if code < 0:
        raise SegcliError(
            f"one of the {len(ranks)} processes of --devices was killed by signal {-code}; continue with --resume"
        )
    return code


def is_lost_peer(error: BaseException) -> bool:
    """Whether an exception only means that another rank has ended, which has said why."""
    text = str(error)
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
