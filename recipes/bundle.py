"""Take a trained model into the package: python recipes/bundle.py RUN/best NAME --data DATA …

Reads the model's folder, stores it as fp16 in segcli/bundled/NAME (its README, written by hand, stays) with its label
table, and prints the rows for weights.toml. A label table of the same classes stays as it is, and its colours become
the model's. Thresholds and metric are found anew on the validation split of DATA, for what is stored: where a class is
in a photograph or two, a rounded weight may show one more segment, and PQ is another. `--licence`: of the weights.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.distributed import Ranks
from segcli.training.validate import RuleScore, best_of, candidates, validate
from segcli.types import LabelSet
from segcli.weights.checkpoint import LoadedModel, load_model, save_model
from segcli.weights.manifest import label_table, label_tables

_SIZE = ("short", "long", "tile", "tile_for")
_RULE = ("score", "overlap", "mask_min", "part_min", "repeat_iou")
PACKAGE = Path(__file__).resolve().parents[1] / "segcli"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="RUN/best or RUN/last")
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--licence", required=True)
    parser.add_argument("--dataset", required=True, help="what the label table says of its source")
    arguments = parser.parse_args()
    loaded = load_model(arguments.model, "cpu", "fp32")
    loaded.stored_dtype = torch.float16
    loaded.facts["licence"] = arguments.licence
    name = f"{arguments.name}_{len(loaded.spec.labels)}"
    if name in label_tables() and _classes(label_table(name)) == _classes(loaded.spec.labels):
        loaded.spec = replace(loaded.spec, labels=label_table(name))
    else:
        _write(PACKAGE / "weights" / "labels" / f"{name}.json", loaded.spec.labels, arguments.dataset)
    folder = PACKAGE / "bundled" / arguments.name
    save_model(loaded, folder)
    best = measured(load_model(folder, "cpu", "fp32"), arguments.data)
    loaded.spec = replace(loaded.spec, rule=best.rule)
    loaded.facts["metrics"] = {best.metric.name: round(100 * best.metric.value, 2)}
    loaded.facts["thresholds"] = best.rule.in_words(loaded.spec.tasks[0])
    save_model(loaded, folder)
    size, rule, spec = loaded.spec.size, loaded.spec.rule, loaded.spec
    print(f"{folder}: {(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB")
    print(f'labels = "{name}"')
    print(f"parameters = {sum(p.numel() for p in loaded.model.parameters()):_}")
    print(f"queries = {loaded.config.num_queries}")
    entries = ", ".join(f"{key} = {value!r}" for key, value in size.to_table().items() if key in _SIZE)
    print(f"size = {{ {entries} }}")
    entries = ", ".join(f"{key} = {getattr(rule, key)}" for key in _RULE)
    print(f"rule = {{ {entries} }}  # {rule}")
    print(f"mean = {list(spec.mean)}\nstd = {list(spec.std)}\nmetrics = {loaded.facts['metrics']}")


def measured(loaded: LoadedModel, data: Path) -> RuleScore:
    """The rule that serves the validation split best, and what it gives."""
    task, rule = loaded.spec.tasks[0], loaded.spec.rule
    dataset = open_split(detect(data, task=task), "val")
    steps = validate(loaded, dataset, task, Ranks(), [rule, *candidates(task, rule)])
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return best_of(end.value)


def _classes(labels: LabelSet) -> list[tuple[int, str, bool]]:
    return [(label.id, label.name, label.isthing) for label in labels]


def _write(path: Path, labels: LabelSet, dataset: str) -> None:
    entries = [
        {"id": x.id, "name": x.name, "isthing": x.isthing} | ({"color": list(x.color)} if x.color else {})
        for x in labels
    ]
    table = {
        "dataset": dataset,
        "readme": "Order = order of the model's class logits. id = the data's own.",
        "categories": entries,
    }
    path.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
