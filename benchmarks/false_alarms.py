"""What a model finds where nothing is: objects above its own thresholds on photographs without any of its classes.

    python benchmarks/false_alarms.py everyday data/coco photos/

A dataset serves with those images (of all splits) in which nothing of the model's classes is annotated, compared by
what their names mean; a folder without annotations serves whole, and what is right in it has to be told by eye. Only
things count, as stuff is everywhere.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import segcli
from segcli.class_names import meaning_of
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.errors import UsageError
from segcli.files.image_names import IMAGE_SUFFIXES
from segcli.types import LabelSet


def without(folder: Path, labels: LabelSet) -> list[Path]:
    """The images of a dataset that show none of the classes; all images of a folder that is no dataset."""
    try:
        info = detect(folder, training=False)
    except UsageError:
        return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    known = {meaning_of(label.name) for label in labels if label.isthing}
    found = []
    for split in info.splits:
        for sample in open_split(info, split):
            shown = {meaning_of(info.labels[int(label)].name) for label in sample.labels}
            if not shown & known:
                found.append(sample.file)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folders", nargs="+", type=Path)
    arguments = parser.parse_args()
    loaded = segcli.load_model(arguments.model, device="cpu")
    print("| photographs | number | with an object | objects | which |\n|---|---|---|---|---|")
    for folder in arguments.folders:
        every = [
            [name for name, isthing in zip(segments.names(), segments.isthing(), strict=True) if isthing]
            for segments in (segcli.predict(loaded, photo) for photo in without(folder, loaded.labels))
        ]
        counts = Counter(name for names in every for name in names)
        which = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        print(f"| {folder} | {len(every)} | {sum(map(bool, every))} | {counts.total()} | {which} |", flush=True)


if __name__ == "__main__":
    main()
