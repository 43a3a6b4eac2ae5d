"""Small runs for the tests of training: a few seconds, fp32, one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from segcli.distributed import Ranks
from segcli.training.recipe import Tables
from segcli.training.resolve import resolve
from segcli.training.session import open_run
from segcli.training.train import Run

TINY = """
[model]
backbone = "lite0"
queries = 8
hidden_dim = 32
encoder_layers = 1
encoder_feedforward_dim = 64
decoder_layers = 3
dim_feedforward = 64

[augment]
kind = "native"
scale = [0.8, 1.3]
crop = [64, 64]

[schedule]
steps = 8
batch = 2
warmup = 2
lr = 1e-3
reference_batch = 0
ema = 0.9

[loss]
points = 64

[validate]
every = 4
images = 2

[run]
workers = 0
dtype = "fp32"
device = "cpu"
"""


def tiny_config(folder: Path) -> Path:
    """A `--config` file of a run of a few seconds."""
    path = folder / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


def open_tiny(data: Path, out: Path, changes: Tables | None = None, **options: Any) -> Run:
    """The same run in this process."""
    torch.set_num_threads(1)
    options_: Tables = {"data": {"path": str(data)}}
    for name, table in (changes or {}).items():
        options_.setdefault(name, {}).update(table)
    recipe = resolve(None, tiny_config(data.parent), options_)
    return open_run(recipe, out, Ranks(), options.pop("say", lambda line: None), **options)


def command(*arguments: object) -> list[str]:
    """`segcli train …`."""
    return [sys.executable, "-m", "segcli", "train", *map(str, arguments)]


def environment() -> dict[str, str]:
    """One thread, whatever the machine has: sums are rounded in one order."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run_command(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment(),
        timeout=timeout,
        check=False,
    )


def losses(out: Path) -> list[tuple[int, float]]:
    """(step, loss) of every update in metrics.jsonl."""
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [(record["step"], record["loss"]) for record in records if record["kind"] == "train"]


def state(out: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the checkpoint."""
    return load_file(out / "checkpoint.safetensors")
