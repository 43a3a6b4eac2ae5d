"""How long `segcli predict` on one photo takes from nothing, beside what `import torch` alone takes.

    python benchmarks/cold_start.py [--model everyday] [--photo PHOTO] [--runs 9]

Fresh processes, interleaved, so that a machine that slows down slows both; medians, and the difference.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def seconds(command: list[str], cache: Path) -> float:
    """Wall time of one process that finds its modules compiled, as they are after an installation."""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(cache), "PYTHONDONTWRITEBYTECODE": ""}
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def noise(path: Path) -> Path:
    """A 640×480 JPEG of smooth noise, for want of a photo."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="everyday")
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        if options.photo is None:
            photo = noise(Path(folder, "noise.jpg"))
        else:
            photo = Path(folder, "photo.jpg")
            with Image.open(options.photo) as image:
                image.convert("RGB").resize((640, 480)).save(photo, quality=90)
        out = Path(folder, "out")
        predict = ["-m", "segcli", "predict", str(photo), "--model", options.model, "--out", str(out), "--overwrite"]
        commands = {
            "python": ["-c", "pass"],
            "import torch": ["-c", "import torch"],
            "segcli --help": ["-m", "segcli", "--help"],
            "segcli predict": predict,
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for run in range(options.runs + 1):
            for name, arguments in commands.items():
                taken = seconds([sys.executable, *arguments], Path(folder, "compiled"))
                if run:  # the first round warms the disk's cache and compiles
                    times[name].append(taken)

    print(f"{options.runs} runs each, interleaved, one 640×480 photo, model {options.model}\n")
    print(f"{'':16}{'median s':>10}{'min':>8}{'max':>8}")
    for name, values in times.items():
        print(f"{name:16}{statistics.median(values):10.2f}{min(values):8.2f}{max(values):8.2f}")
    above = [whole - torch for whole, torch in zip(times["segcli predict"], times["import torch"], strict=True)]
    print(f"{'predict - torch':16}{statistics.median(above):10.2f}{min(above):8.2f}{max(above):8.2f}   (at most 1.5)")


if __name__ == "__main__":
    main()
