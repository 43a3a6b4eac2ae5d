"""Images a second with one process of all threads, and with processes that share the threads; run in turn.

    python benchmarks/workers.py PHOTOS/ --model everyday --model random-swin-t --workers 2 --rounds 3

`random-swin-t` and `random-eomt-s` have random weights in the published shapes for COCO panoptic, made for the run.
Printed for each: seconds of each way (median), their ratio, the peak memory of a process, and whether the results of
the processes equal those of one process of as many threads; then images per core and hour by the CPU seconds of the
processes, without the start of each (measured on one image), and the files and bytes written for an image.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def random_model(name: str, folder: Path) -> str:
    """A model folder in the published shape for COCO panoptic, with random weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    model: transformers.PreTrainedModel
    if name == "random-swin-t":
        stages = ["stage1", "stage2", "stage3", "stage4"]
        backbone = transformers.SwinConfig(window_size=7, out_features=stages)
        config = transformers.Mask2FormerConfig(backbone_config=backbone.to_dict(), num_labels=133)
        model = transformers.Mask2FormerForUniversalSegmentation(config)
    else:
        config = transformers.EomtConfig(
            hidden_size=384, num_hidden_layers=12, num_attention_heads=6, num_blocks=3, num_labels=133
        )
        model = transformers.EomtForUniversalSegmentation(config)
        model.attn_mask_probs.zero_()  # as published: no attention masks in prediction
    model.save_pretrained(folder)
    return str(folder)


def run(photos: Path, model: str, workers: int, threads: int, out: Path) -> tuple[float, int, float]:
    """Seconds, the peak bytes of the largest process, and the CPU seconds of all."""
    command = [sys.executable, "-m", "segcli", "predict", str(photos), "--model", model, "--save", "png,json,coco"]
    command += ["--out", str(out), "--overwrite", "--workers", str(workers), "--quiet"]
    script = (
        "import resource, subprocess, sys, time, json; start = time.perf_counter(); "
        "code = subprocess.call(sys.argv[1:]); "
        "use = resource.getrusage(resource.RUSAGE_CHILDREN); spent = use.ru_utime + use.ru_stime; "
        "print(json.dumps([time.perf_counter() - start, use.ru_maxrss, spent, code]))"
    )
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", script, *command], env=env, capture_output=True, text=True, check=True)
    seconds, peak, spent, code = json.loads(done.stdout.splitlines()[-1])
    if code:
        raise SystemExit(done.stderr)
    return seconds, peak * 1024, spent


def results(out: Path) -> dict[str, str]:
    """The files of a run without the times in them."""
    return {
        str(file.relative_to(out)): re.sub(r'"timings": \{[^}]*\}', "", file.read_bytes().decode("latin-1"))
        for file in sorted(out.rglob("*"))
        if file.is_file()
    }


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", action="append", default=None)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as place:
        for model in options.model or ["everyday", "nuclei"]:
            name = random_model(model, Path(place, model)) if model.startswith("random-") else model
            ways = {"one": (1, threads), "many": (options.workers, threads)}
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            peaks: dict[str, int] = {}
            for _ in range(options.rounds):
                for way, (workers, total) in ways.items():
                    took, peak, _ = run(options.photos, name, workers, total, Path(place, way))
                    seconds[way].append(took)
                    peaks[way] = max(peak, peaks.get(way, 0))
            _, _, spent = run(options.photos, name, 1, max(1, threads // options.workers), Path(place, "alike"))
            same = results(Path(place, "alike")) == results(Path(place, "many"))
            one, many = (statistics.median(seconds[way]) for way in ways)
            print(
                f"{model}: 1 process of {threads} threads {one:.1f} s, {options.workers} of "
                f"{max(1, threads // options.workers)} {many:.1f} s, ratio {one / many:.2f}; peak memory of a process "
                f"{peaks['one'] / 1e6:.0f} and {peaks['many'] / 1e6:.0f} MB; the same results: {same}",
                flush=True,
            )
            _, _, started = run(first(options.photos), name, 1, 1, Path(place, "first"))
            count = sum(path.suffix.lower() in (".jpg", ".jpeg", ".png") for path in options.photos.iterdir())
            each = (spent - started) / max(1, count - 1)
            files = [path.stat().st_size for path in Path(place, "alike").rglob("*") if path.is_file()]
            print(
                f"{model}: {each:.3f} CPU seconds an image, {3600 / each:,.0f} images per core and hour, "
                f"{started:.1f} CPU seconds to start with one; {len(files) / count:.1f} files and "
                f"{sum(files) / count / 1000:.1f} kB an image",
                flush=True,
            )


def first(photos: Path) -> Path:
    """An image of a folder."""
    return next(path for path in sorted(photos.iterdir()) if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


if __name__ == "__main__":
    main()
