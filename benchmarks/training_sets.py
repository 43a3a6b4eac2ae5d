"""What a lever of `segcli train` is worth on everybody's data: equal minutes, few images and many, several datasets.

    python benchmarks/training_sets.py facade=data/facade nuclei=data/nuclei:instance coco=data/coco \\
        street=data/facade:semantic --images 25,100,all --minutes 30 --levers default,copy-paste --seeds 0,1

Each run is `segcli train` with its default flags and what the lever changes. Its steps are as many as fit into the
minutes (validations not counted), by the speed of a short trial of the same lever on the same data. The first N images
of a fixed order are learnt from, so that 25 are among the 100; all of the validation split is measured, as `segcli
eval` would. Nothing else should run meanwhile. A benchmark that was stopped goes on: runs that are in `results.jsonl`
are not done again. The table has a row a dataset and number of images, a column a lever: the metric in percent, over
several seeds the mean and half of the range.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import statistics
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segcli.data.converting.convert import write_dataset
from segcli.data.converting.writers import writer_for
from segcli.data.detect import detect

TRIAL = 12  # steps by which the speed is measured

# Options, and tables of a recipe, beside the default flags. Those with a backbone of their own begin from ImageNet, the
# others from the model that ships, so `lite0` is what `lite1` and `lite2` are compared with.
LEVERS: dict[str, tuple[list[str], str]] = {
    "default": ([], ""),
    "lite0": (["--backbone", "lite0"], ""),
    "lite1": (["--backbone", "lite1"], ""),
    "lite2": (["--backbone", "lite2"], ""),
    "copy-paste": ([], "[augment]\ncopy_paste = 0.5\n"),
    "mosaic": ([], "[augment]\nmosaic = 0.5\n"),
    "repeat": ([], "[data]\nrepeat_threshold = 0.2\n"),
    "wide-jitter": ([], "[augment]\nscale = [0.3, 2.0]\n"),
    "narrow-jitter": ([], "[augment]\nscale = [0.8, 1.25]\n"),
    "pilots": ([], "[loss]\npilots = true\n"),
    "more-queries": (["--queries", "150"], ""),
    "points-2048": (["--points", "2048"], ""),
    "points-8192": (["--points", "8192"], ""),
    "ema-0.99": (["--ema", "0.99"], ""),
    "ema-0.9995": (["--ema", "0.9995"], ""),
    "lr-2e-4": ([], "[schedule]\nlr = 2e-4\n"),
    "lr-8e-4": ([], "[schedule]\nlr = 8e-4\n"),
    "batch-8": (["--batch", "8"], ""),
}


@dataclass(frozen=True)
class Case:
    """One run."""

    name: str  # of the dataset
    source: Path
    task: str | None
    images: int | None  # None: all
    lever: str
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """By which it is known in `results.jsonl`."""
        return {"data": self.name, "images": self.images or "all", "lever": self.lever, "seed": self.seed}


def subset(case: Case, out: Path) -> Path:
    """The first `images` of the dataset, with the whole validation split; the dataset itself for all of them."""
    info = detect(case.source, task=case.task)
    train = sorted(info.splits["train"], key=lambda record: hashlib.sha256(record.image_id.encode()).digest())
    if case.images is None or case.images >= len(train):
        return case.source
    folder = out / "data" / f"{case.name}-{case.images}"
    if not folder.exists():
        splits = {"train": train[: case.images], "val": info.splits["val"]}
        kind = {"panoptic": "coco-panoptic", "semantic": "semantic-png"}.get(info.task, "coco")
        few = replace(info, splits=splits)
        write_dataset(few, folder, writer_for(kind, few))
    return folder


def command(case: Case, data: Path, out: Path, extra: list[str]) -> list[str]:
    """`segcli train` with its default flags, those of the lever, and those given to all."""
    options, recipe = LEVERS[case.lever]
    words = [sys.executable, "-m", "segcli", "train", str(data), "--out", str(out), "--seed", str(case.seed), "--quiet"]
    if case.task:
        words += ["--task", case.task]
    if recipe:
        file = out.parent / f"{case.lever}.toml"
        file.write_text(recipe, encoding="utf-8")
        words += ["--config", str(file)]
    return words + options + extra


def records(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are whole."""
    file = run / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def steps_per_minute(case: Case, data: Path, out: Path, extra: list[str]) -> float:
    """By a trial that is stopped after some steps."""
    run = out / "trials" / f"{case.name}-{case.lever}"
    known = run / "steps-per-minute"
    if known.exists():
        return float(known.read_text(encoding="utf-8"))
    run.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(command(case, data, run, ["--max-steps", "100000", *extra]))
    while len(records(run)) < TRIAL:
        if process.poll() is not None:
            sys.exit(f"the trial of {case.lever} on {case.name} ended after {len(records(run))} steps, see above")
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.wait()
    batch = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))["schedule"]
    images = batch["batch"] * batch["accumulate"] * json.loads((run / "run.json").read_text())["devices"]
    rate = 60 * records(run)[-1]["images_per_second"] / images
    known.write_text(str(rate), encoding="utf-8")
    return rate


def measure(case: Case, minutes: float, out: Path, extra: list[str]) -> dict[str, Any]:
    """Train, and what came of it."""
    data = subset(case, out)
    steps = max(10, round(minutes * steps_per_minute(case, data, out, extra)))
    run = out / "runs" / "-".join(map(str, case.key.values()))
    run.parent.mkdir(parents=True, exist_ok=True)
    resumed = ["--resume"] if (run / "config.toml").exists() else []
    start = time.monotonic()
    subprocess.run(command(case, data, run, ["--max-steps", str(steps), *extra, *resumed]), check=True)
    final = next(record for record in reversed(records(run)) if record["kind"] == "final")
    return case.key | {
        "metric": final["metric"],
        "value": final["value"],
        "summary": final["summary"],
        "step": final["step"],
        "steps": steps,
        "minutes": round((time.monotonic() - start) / 60, 1),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    levers = list(dict.fromkeys(result["lever"] for result in results))
    lines = ["| data | images | metric | " + " | ".join(levers) + " |", "|---" * (3 + len(levers)) + "|"]
    for data, images, metric in dict.fromkeys((r["data"], r["images"], r["metric"]) for r in results):
        cells = []
        for lever in levers:
            row = {"data": data, "images": images, "lever": lever}
            values = [100 * r["value"] for r in results if row.items() <= r.items()]
            spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}" if values else "–")
        lines.append(f"| {data} | {images} | {metric} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Every run that is asked for; all levers of a dataset after each other, so that they meet the same machine."""
    found = []
    for place in arguments.data:
        name, _, rest = place.partition("=")
        path, _, task = rest.partition(":")
        for images in arguments.images.split(","):
            for seed in arguments.seeds.split(","):
                for lever in arguments.levers.split(","):
                    count = None if images == "all" else int(images)
                    found.append(Case(name, Path(path), task or None, count, lever, int(seed)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=FOLDER[:TASK]")
    parser.add_argument("--images", default="25,100,all")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--levers", default="default", help=f"of {', '.join(LEVERS)}")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--out", type=Path, default=Path("bench-training"))
    parser.add_argument("--options", default="", help="of `segcli train`, for every run: --options='--devices 2'")
    arguments = parser.parse_args()
    if unknown := set(arguments.levers.split(",")) - set(LEVERS):
        parser.error(f"unknown levers: {', '.join(sorted(unknown))}; there are {', '.join(LEVERS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.jsonl"
    results = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    for case in cases(arguments):
        if any(case.key.items() <= result.items() for result in results):
            continue
        results.append(measure(case, arguments.minutes, arguments.out, arguments.options.split()))
        with file.open("a", encoding="utf-8") as sink:
            sink.write(json.dumps(results[-1]) + "\n")
        print(table(results), end="\n\n", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
