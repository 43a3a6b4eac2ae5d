"""Images a second with one process of all threads, and with processes that share the threads; run in turn.

    python benchmarks/workers.py PHOTOS/ --model everyday --workers 2 --rounds 3

`--model` is repeated for several models; `random-swin-t` is a Swin-T Mask2Former with random weights, made for the run.
Printed for each: seconds of each way (median), their ratio, the peak memory of a process, and whether the results of
the processes equal those of one process of as many threads.
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


def random_swin_t(folder: Path) -> str:
    """A model folder in the published shape of Swin-T for COCO panoptic, with random weights."""
    import torch
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    torch.manual_seed(0)
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(window_size=7, out_features=["stage1", "stage2", "stage3", "stage4"]).to_dict()
    )
    config.id2label = {number: f"class {number}" for number in range(133)}
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    return str(folder)


def run(photos: Path, model: str, workers: int, threads: int, out: Path) -> tuple[float, int]:
    """Seconds and the peak bytes of the largest process."""
    command = [sys.executable, "-m", "segcli", "predict", str(photos), "--model", model, "--save", "png,json,coco"]
    command += ["--out", str(out), "--overwrite", "--workers", str(workers), "--quiet"]
    script = (
        "import resource, subprocess, sys, time, json; start = time.perf_counter(); "
        "code = subprocess.call(sys.argv[1:]); "
        "print(json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, code]))"
    )
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", script, *command], env=env, capture_output=True, text=True, check=True)
    seconds, peak, code = json.loads(done.stdout.splitlines()[-1])
    if code:
        raise SystemExit(done.stderr)
    return seconds, peak * 1024


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
            name = random_swin_t(Path(place, "swin-t")) if model == "random-swin-t" else model
            ways = {"one": (1, threads), "many": (options.workers, threads)}
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            peaks: dict[str, int] = {}
            for _ in range(options.rounds):
                for way, (workers, total) in ways.items():
                    spent, peak = run(options.photos, name, workers, total, Path(place, way))
                    seconds[way].append(spent)
                    peaks[way] = max(peak, peaks.get(way, 0))
            run(options.photos, name, 1, max(1, threads // options.workers), Path(place, "alike"))
            same = results(Path(place, "alike")) == results(Path(place, "many"))
            one, many = (statistics.median(seconds[way]) for way in ways)
            print(
                f"{model}: 1 process of {threads} threads {one:.1f} s, {options.workers} of "
                f"{max(1, threads // options.workers)} {many:.1f} s, ratio {one / many:.2f}; peak memory of a process "
                f"{peaks['one'] / 1e6:.0f} and {peaks['many'] / 1e6:.0f} MB; the same results: {same}",
                flush=True,
            )


if __name__ == "__main__":
    main()
