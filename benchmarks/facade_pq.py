"""The panoptic quality of the bundled `facade` model: `segcli predict`, then panopticapi reading its files.

    python benchmarks/facade_pq.py DATA [--dtype bf16] [--threshold 0.8]

DATA is a COCO panoptic folder with images/, panoptic_val.json and panoptic_val/ (the facade photographs).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--threshold", help="the model's own unless given")
    parser.add_argument("--dtype", default="fp32")
    options = parser.parse_args()
    from panopticapi.evaluation import pq_compute_single_core

    truth = json.loads((options.data / "panoptic_val.json").read_text())
    ids = {image["file_name"]: image["id"] for image in truth["images"]}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "segcli", "predict", *(str(options.data / "images" / name) for name in ids)]
        command += ["--model", "facade", "--task", "panoptic", "--save", "coco-panoptic", "--out", out, "--quiet"]
        command += ["--threshold", options.threshold] if options.threshold else []
        subprocess.run([*command, "--dtype", options.dtype], check=True)
        predicted = json.loads((Path(out) / "panoptic.json").read_text())
        names = {image["id"]: image["file_name"] for image in predicted["images"]}
        by_image = {ids[names[a["image_id"]]]: a for a in predicted["annotations"]}
        pairs = [(annotation, by_image[annotation["image_id"]]) for annotation in truth["annotations"]]
        categories = {category["id"]: category for category in truth["categories"]}
        stat = pq_compute_single_core(
            0, pairs, str(options.data / "panoptic_val"), str(Path(out) / "panoptic"), categories
        )
    overall, per_class = stat.pq_average(categories, isthing=None)
    threshold = options.threshold or "of the model"
    print(f"\nthreshold {threshold}, {options.dtype}, {len(pairs)} photographs, {overall['n']} classes")
    print(f"PQ {100 * overall['pq']:.2f}   SQ {100 * overall['sq']:.2f}   RQ {100 * overall['rq']:.2f}")
    for category, result in per_class.items():
        print(f"  {categories[category]['name']:30}{100 * result['pq']:6.1f}")


if __name__ == "__main__":
    main()
