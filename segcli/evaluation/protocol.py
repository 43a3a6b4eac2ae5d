"""The evaluation protocol, reported beside every metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segcli.errors import UsageError
from segcli.inference.tta import SCALES, sizes
from segcli.metrics import COCO_DETS
from segcli.types import OBJECT_TASKS, InferenceSpec, Task

TILED_DETS = 500  # instances of an image in tiles, which is worth cutting up because it holds many


def most_counted(spec: InferenceSpec) -> int:
    """How many instances of a class and image count in AP: COCO's 100, or as many as the checkpoint gives."""
    return max(COCO_DETS, spec.rule.top_k, TILED_DETS if spec.size.tile else 0)


@dataclass(frozen=True)
class Protocol:
    """How images become predictions and predictions become metrics; all of it is stored in the result.

    spec: the checkpoint's own size, rule and classes, with what the user overrode.
    max_dets: the most instances of a class and image that count.
    tta: semantic scores averaged over sizes and mirror images.
    """

    spec: InferenceSpec
    tasks: tuple[Task, ...]
    max_dets: int = COCO_DETS
    tta: bool = False

    @classmethod
    def of(
        cls, spec: InferenceSpec, tasks: Sequence[Task], *, max_dets: int | None = None, tta: bool = False
    ) -> Protocol:
        """The checkpoint's protocol. max_dets: also as many instances are kept; None keeps the checkpoint's number, of
        which `most_counted` count.

        Raises UsageError for options that do not apply to the tasks.
        """
        if tta and tuple(tasks) != ("semantic",):
            raise UsageError(
                "--tta averages the scores of semantic segmentation, as published; other tasks have no such protocol: "
                f"add --task semantic{' --tile 0' if spec.size.tile else ''}, or leave out --tta"
            )
        if tta and spec.size.tile:
            raise UsageError(
                f"--tta needs whole photos, and this model predicts in tiles of {spec.size.tile} pixels; "
                "add --tile 0, or leave out --tta"
            )
        if max_dets is not None and not set(OBJECT_TASKS) & set(tasks):
            raise UsageError(f"--max-dets limits instances, which --task {tasks[0]} does not have; leave it out")
        if max_dets is not None:
            spec = dataclasses.replace(spec, rule=dataclasses.replace(spec.rule, top_k=max_dets))
        return cls(spec, tuple(tasks), max_dets or most_counted(spec), tta)

    def describe(self, task: Task) -> dict[str, Any]:
        """What is stored beside a task's metric: test size and every threshold that it depends on."""
        rule = self.spec.rule
        facts: dict[str, Any] = {"size": self.spec.size.to_table()}
        if task == "panoptic":
            facts["rule"] = {"score": rule.score, "overlap": rule.overlap, "mask_min": rule.mask_min}
            facts["rule"] |= {"normalise": rule.normalise, "min_area": rule.min_area, "part_min": rule.part_min}
        elif task in OBJECT_TASKS:
            facts |= {"score": "no threshold", "instances": rule.top_k, "max_dets": self.max_dets}
            facts |= {"part_min": rule.part_min, "repeat_iou": rule.repeat_iou} if task == "instance" else {}
        else:
            where = "the padded input" if self.spec.combine_padded else "the photo"
            facts |= {"rule": {"normalise": rule.normalise}, "combined at": f"the size of {where}"}
            short = [size.short for size in sizes(self.spec.size)]
            facts["tta"] = {"scales": list(SCALES), "short": short, "flip": True} if self.tta else None
        return facts

    def in_words(self, task: Task) -> str:
        """The same as one line of text."""
        size, rule = self.spec.size, self.spec.rule
        words = [size.in_words()]
        if task == "panoptic":
            words.append(rule.in_words(task))
        elif task in OBJECT_TASKS:
            view = "a tile" if size.tile else "an image"
            words.append(f"the {rule.top_k} best of {view}, {rule.in_words(task)}, max_dets {self.max_dets}")
        elif self.tta:
            words[0] = f"mean of short sides {', '.join(str(s.short) for s in sizes(size))} and their mirror images"
        return "; ".join(words)
