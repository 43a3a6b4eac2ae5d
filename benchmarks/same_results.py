"""Do two checkouts give the same results? Runs the same commands in both and compares every file they write.

    python benchmarks/same_results.py ../before . --data ../shared/data [--only predict,eval]

Files are compared byte by byte, PNGs by their pixels; of JSON, cards and logs, what tells of time, versions and places
is left out (`VOLATILE`), and numbers may differ in their last digit. Prints one line a command, then what differs,
files of one kind together with the first of them; the exit code is 1 if anything does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
# Keys whose values depend on the run, not on the result.
VOLATILE = {
    "timings", "seconds", "images_per_second", "peak_memory", "memory", "started", "created", "date", "segcli",
    "python", "packages", "machine", "command", "photo", "path", "data",
}  # fmt: skip
TINY = """
[model]
queries = 8
hidden_dim = 32
encoder_layers = 1
encoder_feedforward_dim = 64
decoder_layers = 3
dim_feedforward = 64
[augment]
kind = "native"
scale = [0.8, 1.3]
crop = [96, 96]
[schedule]
steps = 6
batch = 2
warmup = 2
lr = 1e-3
reference_batch = 0
ema = 0.9
[loss]
points = 64
[validate]
every = 3
images = 4
[run]
workers = 0
dtype = "fp32"
device = "cpu"
"""


def commands(data: Path, scratch: Path) -> dict[str, list[str]]:
    """Name -> the arguments of `segcli`; `{out}` is a folder of the command's own."""
    photos = [str(ROOT / "docs" / name) for name in ("astronaut.jpg", "chelsea.png")]
    photos += [str(path) for path in sorted((data / "photos").glob("*.jpg"))[:8]]
    facades = [str(path) for path in sorted((data / "facade/images").iterdir())[:4]]
    cells = [str(path) for path in sorted((data / "nuclei/val/images").iterdir())[:4]]
    pictures = "overlay,png,json,coco-panoptic,masks"
    found: dict[str, list[str]] = {}
    for model, sources in (("everyday", photos), ("facade", facades), ("nuclei", cells)):
        for task in ("panoptic", "instance", "semantic"):
            if model == "nuclei" and task != "instance":
                continue
            save = {"panoptic": pictures, "instance": "overlay,png,json,coco,masks", "semantic": "overlay,png,json"}
            found[f"predict {model} {task}"] = [
                "predict", *sources, "--model", model, "--task", task, "--save", save[task], "--out", "{out}"
            ]  # fmt: skip
    tiles = ["--tile", "256", "--short-side", "256", "--save", "png,json", "--out", "{out}"]
    found["predict in tiles"] = ["predict", *photos[:3], "--model", "everyday", *tiles]
    for model, folder in (("facade", "facade"), ("nuclei", "nuclei")):
        found[f"eval {model}"] = ["eval", str(data / folder), "--model", model, "--images", "8", "--out", "{out}"]
    found["eval everyday, all tasks"] = [
        "eval", str(data / "everyday"), "--model", "everyday", "--task", "all", "--images", "12", "--out", "{out}"
    ]  # fmt: skip
    found["data check"] = ["data", "check", str(data / "coco"), "--json"]
    found["data stats"] = ["data", "stats", str(data / "coco"), "--json"]
    for kind in ("coco", "coco-panoptic", "semantic-png", "yolo", "voc"):
        found[f"data convert to {kind}"] = ["data", "convert", str(data / "coco"), "{out}/it", "--to", kind]
    found["data split"] = ["data", "split", str(data / "coco"), "{out}/it", "--val", "0.3"]
    tiny = scratch / "tiny.toml"
    tiny.write_text(TINY, encoding="utf-8")
    train = ["train", str(data / "coco"), "--config", str(tiny), "--backbone", "lite0", "--quiet"]
    found["train"] = [*train, "--out", "{out}/run"]
    return found


def run(tree: Path, arguments: list[str], out: Path) -> tuple[int, str]:
    """The command in one checkout: exit code and standard output."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    out.mkdir(parents=True)
    # -P: the folder this is called in, which may be a checkout, is not searched before the one that is meant.
    command = [sys.executable, "-P", "-m", "segcli", *(part.replace("{out}", str(out)) for part in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
    return done.returncode, done.stdout


def steady(value: Any) -> Any:
    """The same JSON value without what tells of time and place."""
    if isinstance(value, dict):
        return {key: steady(item) for key, item in value.items() if key not in VOLATILE}
    return [steady(item) for item in value] if isinstance(value, list) else value


def content(path: Path) -> Any:
    """What of a file must be the same."""
    raw = path.read_bytes()
    if path.suffix == ".png":
        with Image.open(path) as image:
            return np.asarray(image).tobytes()
    if path.suffix == ".json":
        return steady(json.loads(raw))
    if path.suffix in (".jsonl", ".ledger"):
        return [steady(json.loads(line)) for line in raw.splitlines()]
    if path.suffix in (".md", ".toml", ".txt", ".csv", ".log"):
        return re.sub(r"\d+(\.\d+)? (s|ms|minutes|images a second)\b|/tmp/\S+|\d{4}-\d\d-\d\d\S*", "", raw.decode())
    return raw


def differences(before: Path, after: Path) -> list[str]:
    """Files of two folders that are not the same, with the reason."""
    one, two = ({str(p.relative_to(top)) for p in top.rglob("*") if p.is_file()} for top in (before, after))
    told = [f"{name}: only before" for name in sorted(one - two)] + [
        f"{name}: only after" for name in sorted(two - one)
    ]
    for name in sorted(one & two):
        a, b = content(before / name), content(after / name)
        if where := _where(a, b):
            told.append(f"{name}: {where}")
    return told


def grouped(told: list[str]) -> list[str]:
    """One line for files of one kind that differ in one way."""
    groups: dict[str, list[str]] = {}
    for line in told:
        kind = re.sub(r"^[^:]*?((\.[a-z]+)?\.[a-z]+):", r"\1:", line)
        groups.setdefault(re.sub(r"[\d.]+", "#", kind), []).append(line)
    return [f"{len(lines)} × {lines[0]}" if len(lines) > 1 else lines[0] for lines in groups.values()]


def _where(a: Any, b: Any, path: str = "") -> str:
    """The first place in which two values differ; empty if there is none."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if key not in a or key not in b:
                return f"{path}.{key}: only {'before' if key in a else 'after'}"
            if where := _where(a[key], b[key], f"{path}.{key}"):
                return where
        return ""
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return next((w for i, (x, y) in enumerate(zip(a, b, strict=True)) if (w := _where(x, y, f"{path}[{i}]"))), "")
    if isinstance(a, float) and isinstance(b, float) and abs(a - b) < 2e-6:
        return ""
    if a == b:
        return ""
    if isinstance(a, bytes):
        return f"{len(a)} and {len(b)} bytes"
    return f"{path}: {str(a)[:80]} / {str(b)[:80]}"


def main() -> int:
    """-> 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--only", default="", help="commands whose names begin with one of these, with commas between")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for number, (name, arguments) in enumerate(commands(options.data.resolve(), scratch).items()):
            if not name.startswith(tuple(options.only.split(","))):
                continue
            trees = (options.before.resolve(), options.after.resolve())
            outs = [scratch / f"{number}-{side}" / "out" for side in ("a", "b")]
            (code_a, text_a), (code_b, text_b) = (run(t, arguments, o) for t, o in zip(trees, outs, strict=True))
            told = differences(*outs)
            if code_a or code_b:
                told.append(f"exit codes {code_a} and {code_b}")
            if "--json" in arguments and (where := _where(*(steady(json.loads(text)) for text in (text_a, text_b)))):
                told.append(f"standard output: {where}")
            files = sum(1 for path in outs[1].rglob("*") if path.is_file())
            print(f"{name}: {f'{files} files, ' if files else ''}{'the same' if not told else 'DIFFERENT'}", flush=True)
            for line in grouped(told):
                print(f"    {line}", flush=True)
            wrong += bool(told)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
