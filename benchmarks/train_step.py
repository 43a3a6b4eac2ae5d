"""One training step, segcli beside transformers: same configuration, weights, images and targets, in turn.

    python benchmarks/train_step.py               # both cases; several minutes, and 24 GB for the five of Swin-T
    python benchmarks/train_step.py --case swin-t --kind segcli --kind segcli-bf16
    python benchmarks/train_step.py --case lite0 --runs 9

A step is forward pass, loss, backward pass, clipping and fused AdamW, the last two the same code for both. BatchNorm
uses its stored statistics in both. Each trains in a process of its own, in turn, segcli's with the memory allocator
set as `segcli train` sets it ("memory kept"); what the same setting does for transformers is shown too.

Prints medians, minima and their ratios to transformers' fp32, and the memory a step needs above weights, gradients and
optimizer state, each measured in a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from segcli.config import parse_config
from segcli.models.mask2former import build as build_mask2former
from segcli.objective.criterion import SetCriterion
from segcli.objective.terms import AtPoints, MaskTerms
from segcli.training.memory import keep_freed_memory
from segcli.types import Batch, Target
from segcli.weights.architectures import key_map

STAGES = ["stage1", "stage2", "stage3", "stage4"]
NAMES = {
    "hf": "transformers fp32",
    "hf-keep": "transformers fp32, memory kept",
    "hf-bf16": "transformers bf16 autocast",
    "segcli": "segcli fp32",
    "segcli-bf16": "segcli bf16 autocast",
}


@dataclass(frozen=True)
class Case:
    side: int
    images: int
    objects: int
    settings: dict[str, Any] = field(default_factory=dict)


CASES = {
    "swin-t": Case(512, 2, 20, {"num_queries": 100, "num_labels": 133}),
    "lite0": Case(
        320,
        4,
        20,
        {
            "num_queries": 60,
            "num_labels": 21,
            "hidden_dim": 128,
            "feature_size": 128,
            "mask_feature_size": 128,
            "encoder_layers": 3,
            "encoder_feedforward_dim": 512,
            "dim_feedforward": 512,
            "decoder_layers": 7,  # predictions: one more than layers
            "train_num_points": 1024,
        },
    ),
}


def their_model(name: str) -> Any:
    """transformers' model with random weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    if name == "swin-t":
        backbone = transformers.SwinConfig(
            embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, out_features=STAGES
        )
    else:
        backbone = transformers.TimmBackboneConfig(
            backbone="tf_efficientnet_lite0", out_indices=[1, 2, 3, 4], use_pretrained_backbone=False
        )
    config = transformers.Mask2FormerConfig(backbone_config=backbone, **CASES[name].settings)
    return transformers.Mask2FormerForUniversalSegmentation(config)


def make_targets(case: Case) -> list[Target]:
    """Images full of ellipses."""
    generator = torch.Generator().manual_seed(0)
    line = torch.arange(case.side) / case.side
    targets = []
    for image in range(case.images):
        centre = torch.rand(case.objects, 2, 1, 1, generator=generator)
        radius = torch.rand(case.objects, 2, 1, 1, generator=generator) * 0.25 + 0.03
        y, x = (line[:, None] - centre[:, 0]) / radius[:, 0], (line[None] - centre[:, 1]) / radius[:, 1]
        labels = torch.randint(0, case.settings["num_labels"], (case.objects,), generator=generator)
        crowd = torch.zeros(case.objects, dtype=torch.bool)
        targets.append(Target(labels, y**2 + x**2 < 1, torch.zeros(case.objects, 4), crowd, str(image)))
    return targets


class Runner:
    """Training as `kind` does it; `loss` is one forward pass and loss, `step` a whole step."""

    def __init__(self, kind: str, name: str) -> None:
        self.bf16 = kind.endswith("bf16")
        self.case = CASES[name]
        model = their_model(name)
        points = model.config.train_num_points
        if kind.startswith("segcli"):
            config = parse_config(model.config.to_dict(), name)
            state, _ = key_map(config).read(model.state_dict())
            model = build_mask2former(config)
            model.load_state_dict(state, strict=True)
            self.loss = self._ours
            self.criterion = SetCriterion(config.num_classes, (MaskTerms(AtPoints(points)),))
        else:
            self.loss = self._theirs
        self.model = model.train()
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5, weight_decay=0.05, fused=True)
        self.batch(self.case)

    def batch(self, case: Case) -> None:
        """Use another size of images."""
        torch.manual_seed(0)
        self.images = torch.randn(case.images, 3, case.side, case.side)
        self.targets = make_targets(case)

    def _theirs(self) -> Tensor:
        masks, labels = [t.masks.float() for t in self.targets], [t.labels for t in self.targets]
        return self.model(pixel_values=self.images, mask_labels=masks, class_labels=labels).loss

    def _ours(self) -> Tensor:
        count, _, height, width = self.images.shape
        batch = Batch(self.images, torch.zeros(count, height, width, dtype=torch.bool), [(height, width)] * count)
        layers = self.model(batch, every_layer=True)
        return self.criterion(layers, self.targets, lambda _, __, shape: torch.rand(shape)).total

    def step(self) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.loss()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 0.01)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)


def once(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def memory(kind: str, name: str) -> float:
    """MiB of resident memory at the peak of a step above what is held before it."""
    import psutil

    runner = Runner(kind, name)
    runner.batch(Case(64, 1, 2, CASES[name].settings))
    runner.step()  # libraries are loaded, gradients and optimizer state exist
    runner.batch(runner.case)
    gc.collect()
    process, peak, done = psutil.Process(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    runner.step()
    done.set()
    watcher.join()
    return (peak - before) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="one case only")
    parser.add_argument("--kind", choices=NAMES, action="append", help="these alone (transformers fp32 always runs)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # one measurement, in a process of its own
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # one kind's steps, in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kind = options.memory or options.worker
    if kind and (kind.startswith("segcli") or kind == "hf-keep"):
        keep_freed_memory()
    if options.worker:
        serve(options.worker, options.case[0])
        return
    if options.memory:
        print(json.dumps(memory(options.memory, options.case[0])))
        return
    for name in options.case or CASES:
        report(name, options)


class Worker:
    """A process that makes one step whenever it is told to."""

    def __init__(self, kind: str, name: str, threads: int) -> None:
        command = [sys.executable, __file__, "--worker", kind, "--case", name, "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.step()

    def step(self) -> float:
        """-> seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """Its memory is needed for the next measurement."""
        self.process.communicate()


def serve(kind: str, name: str) -> None:
    """The other end of a Worker."""
    runner = Runner(kind, name)
    for _ in sys.stdin:
        print(once(runner.step), flush=True)


def report(name: str, options: argparse.Namespace) -> None:
    kinds = [kind for kind in NAMES if kind == "hf" or not options.kind or kind in options.kind]
    workers = {kind: Worker(kind, name, options.threads) for kind in kinds}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(options.runs):
        for kind, worker in workers.items():
            times[kind].append(worker.step())
    for worker in workers.values():
        worker.close()
    case = CASES[name]
    print(
        f"\n{name}, {case.images} images of {case.side}×{case.side}, {case.objects} objects each, "
        f"{options.threads} threads, {options.runs} runs, interleaved"
    )
    print(f"{'':32}{'median s':>9}{'speed-up':>10}{'min s':>9}{'speed-up':>10}{'memory':>11}{'of theirs':>11}")
    reference = {}
    for kind in kinds:
        command = [sys.executable, __file__, "--memory", kind, "--case", name, "--threads", str(options.threads)]
        needed = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        median, least = statistics.median(times[kind]), min(times[kind])
        reference = reference or {"median": median, "min": least, "memory": needed}
        print(
            f"{NAMES[kind]:32}{median:9.2f}{reference['median'] / median:9.2f}×{least:9.2f}"
            f"{reference['min'] / least:9.2f}×{needed:7.0f} MiB{needed / reference['memory']:10.2f}×"
        )


if __name__ == "__main__":
    main()
