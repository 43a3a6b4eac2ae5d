"""Memory while a long clip is predicted: it must not grow with the length.

    python -m benchmarks.clip_memory --frames 20000

A clip of small frames, in which squares move and new ones appear all the time, is predicted with a network that only
looks at colours, and written as every kind of `--save`. Printed: resident megabytes every tenth of the way, and what
the joined files take.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from segcli.inference.predict import resolve
from segcli.inference.video.clip import Clip
from segcli.inference.video.encoding import ClipWriter
from segcli.inference.video.kinds import CLIP_KINDS, ClipRun
from segcli.inference.video.predict_clip import predict_clip
from segcli.render import Style
from tests.fakes import LABELS, FakeLoaded


def resident() -> float:
    """Megabytes of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def write_clip(path: Path, frames: int) -> None:
    """A red square goes across every two seconds, a green one every three."""
    with ClipWriter(path, Fraction(25)) as clip:
        for number in range(frames):
            image = np.zeros((64, 96, 3), dtype=np.uint8)
            red, green = number % 50 * 2, number % 75
            image[8:24, red : red + 16, 0] = 255
            image[40:56, green : green + 16, 1] = 255
            clip.write(image, number / 25)


def main() -> None:
    """Print a line every tenth of the clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        write_clip(Path(place, "clip.mp4"), options.frames)
        loaded, start = FakeLoaded(), time.perf_counter()
        with Clip(str(Path(place, "clip.mp4"))) as clip:
            kinds = tuple(CLIP_KINDS)
            run = ClipRun(clip, Path(place, "out"), "clip", kinds, "panoptic", LABELS, Style(), {"model": "fake"})
            frames = predict_clip(loaded, resolve(loaded.spec, "panoptic"), run)  # type: ignore[arg-type]
            for number, _ in enumerate(frames, start=1):
                if number % max(1, options.frames // 10) == 0:
                    print(f"{number:6} frames, {time.perf_counter() - start:5.0f} s: {resident():.0f} MB", flush=True)
        print(f"all files are made: {resident():.0f} MB")
        for path in sorted(Path(place, "out").iterdir()):
            if path.is_file():
                print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
