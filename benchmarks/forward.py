"""One forward pass of each family, segcli beside transformers: same weights, same input, in turn in one process.

    python benchmarks/forward.py                 # every model; minutes
    python benchmarks/forward.py --kind segcli   # without bf16, a pass of which takes minutes where it is emulated
    python benchmarks/forward.py --kind segcli --kind segcli-compile --kind hf-compile   # minutes more, to compile

Prints medians and their ratio to transformers' eager fp32, the time the same multiplications take as bare matrix
products (the floor), and the memory a pass needs above the loaded weights, each measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from segcli.config import parse_config
from segcli.layers.linear import linear
from segcli.layers.trace import exporting
from segcli.types import Batch, QueryPredictions
from segcli.weights.architectures import build_model, key_map

ROOT = Path(__file__).resolve().parents[1]
CASES = {
    "swin-t": (800, 1088),
    "facade": (512, 512),
    "maskformer-swin-t": (800, 1066),
    "maskformer-r50": (800, 1066),
    "detr-r50": (800, 1066),
    "detr-r50-panoptic": (800, 1066),
    "eomt-s": (640, 640),
    "eomt-b": (640, 640),
}
NAMES = {
    "hf": "transformers fp32",
    "hf-compile": "transformers fp32, torch.compile",
    "hf-bf16": "transformers bf16 autocast",
    "segcli": "segcli fp32",
    "segcli-compile": "segcli fp32, torch.compile",
    "segcli-bf16": "segcli bf16",
}
EAGER = [kind for kind in NAMES if not kind.endswith("compile")]


def their_model(case: str) -> Any:
    """transformers' model: with random weights in a published shape, or the bundled `facade`."""
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    if case == "facade":
        folder = ROOT / "segcli" / "bundled" / "facade"
        return transformers.Mask2FormerForUniversalSegmentation.from_pretrained(folder, dtype=torch.float32).eval()
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = transformers.SwinConfig(
        embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, out_features=stages
    )
    if case.startswith("maskformer"):
        if case.endswith("r50"):
            backbone = transformers.ResNetConfig(out_features=stages)
        config = transformers.MaskFormerConfig(backbone_config=backbone, num_labels=150)
        return transformers.MaskFormerForInstanceSegmentation(config).eval()
    if case.startswith("detr"):
        kind = transformers.DetrForSegmentation if case.endswith("panoptic") else transformers.DetrForObjectDetection
        config = transformers.DetrConfig(
            use_timm_backbone=False, backbone_config=transformers.ResNetConfig(out_features=stages), num_labels=91
        )
        config.architectures = [kind.__name__]
        return kind(config).eval()
    if case.startswith("eomt"):
        dim, heads = (384, 6) if case.endswith("s") else (768, 12)
        config = transformers.EomtConfig(
            hidden_size=dim, num_hidden_layers=12, num_attention_heads=heads, num_blocks=3, num_labels=133
        )
        model = transformers.EomtForUniversalSegmentation(config).eval()
        model.attn_mask_probs.zero_()  # as published: no attention masks in prediction
        return model
    config = transformers.Mask2FormerConfig(backbone_config=backbone, num_queries=100, num_labels=133)
    return transformers.Mask2FormerForUniversalSegmentation(config).eval()


def runner(kind: str, case: str) -> Callable[[], Any]:
    """A function that makes one forward pass as `kind` does it."""
    theirs = their_model(case)
    if case != "facade":  # as in a trained network: biases of nothing let denormal numbers through, which are slow
        for name, parameter in theirs.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.02)
    images = torch.randn(1, 3, *CASES[case])
    if kind.startswith("hf"):
        if kind == "hf-compile":
            theirs = torch.compile(theirs)
        if kind == "hf-bf16":

            def autocast() -> Any:
                with torch.autocast("cpu", torch.bfloat16):
                    return theirs(pixel_values=images)

            return autocast
        return lambda: theirs(pixel_values=images)
    config = parse_config(theirs.config.to_dict(), case)
    state, _ = key_map(config).read(theirs.state_dict())
    ours = build_model(config)
    ours.load_state_dict(state, strict=True)
    ours = ours.eval().requires_grad_(False).to(torch.bfloat16 if kind == "segcli-bf16" else torch.float32)
    images = images.to(next(ours.parameters()).dtype)
    batch = Batch(images, torch.zeros(1, *CASES[case], dtype=torch.bool), [CASES[case]])
    if kind == "segcli-compile":  # of what the shortcuts compute, as they depend on what a compiler does not know
        ours = torch.compile(ours, dynamic=False)

        def compiled() -> Any:
            with exporting():
                return with_masks(ours(batch)[-1])

        return compiled
    return lambda: with_masks(ours(batch)[-1])


def with_masks(prediction: QueryPredictions) -> QueryPredictions:
    """A prediction and all of its masks, which segcli makes on demand and transformers always."""
    if prediction.masks is not None:
        prediction.masks.dense()
    return prediction


def once(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def floor(case: str, dtype: torch.dtype) -> tuple[float, float]:
    """(GMAC of segcli's forward pass, seconds they take at the speed of a large square product)."""
    from torch.utils.flop_counter import FlopCounterMode

    run = runner("segcli", case)
    with FlopCounterMode(display=False) as counter:
        run()
    a = torch.randn(2048, 2048, dtype=dtype)
    once(lambda: linear(a, a))
    seconds = statistics.median(once(lambda: linear(a, a)) for _ in range(5))
    return counter.get_total_flops() / 2e9, counter.get_total_flops() / (2 * 2048**3 / seconds)


def memory(kind: str, case: str) -> float:
    """MiB of resident memory at the peak of a pass above what is held before it."""
    import gc

    import psutil

    run = runner(kind, case)
    gc.collect()
    process, peak, done = psutil.Process(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return (peak - before) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="one case only")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kind", choices=NAMES, action="append", help="these alone (transformers fp32 always runs)")
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # one measurement, in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        if options.memory:
            print(json.dumps(memory(options.memory, options.case[0])))
            return
        for case in options.case or CASES:
            report(case, options)


def report(case: str, options: argparse.Namespace) -> None:
    kinds = [kind for kind in NAMES if kind == "hf" or kind in (options.kind or EAGER)]
    runs = {kind: runner(kind, case) for kind in kinds}
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(options.runs):
        for kind, run in runs.items():
            times[kind].append(once(run))
    median = {kind: statistics.median(values) for kind, values in times.items()}
    height, width = CASES[case]
    print(f"\n{case} {height}×{width}, 1 image, {options.threads} threads, median of {options.runs}, interleaved")
    print(f"{'':34}{'seconds':>9}{'min':>7}{'max':>7}{'speed-up':>10}{'memory':>10}")
    for kind in kinds:
        command = [sys.executable, __file__, "--memory", kind, "--case", case, "--threads", str(options.threads)]
        needed = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        low, high = min(times[kind]), max(times[kind])
        print(
            f"{NAMES[kind]:34}{median[kind]:9.2f}{low:7.2f}{high:7.2f}{median['hf'] / median[kind]:9.2f}×"
            f"{needed:6.0f} MiB"
        )
    for dtype in dict.fromkeys(torch.bfloat16 if kind.endswith("bf16") else torch.float32 for kind in kinds):
        gmac, seconds = floor(case, dtype)
        print(f"{f'floor: {gmac:.0f} GMAC in {dtype}':34}{seconds:9.2f}")


if __name__ == "__main__":
    main()
