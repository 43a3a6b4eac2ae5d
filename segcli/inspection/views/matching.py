"""The Hungarian assignment on one photo: the cost of each pair of query and object, and the chosen pairs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.config import ModelConfig
from segcli.data.dataset import Sample, open_split
from segcli.data.detect import detect
from segcli.data.loading.collate import Layout, collate
from segcli.data.loading.draws import torch_generator
from segcli.data.loading.transforms import ValTransform
from segcli.errors import InputError, UsageError
from segcli.inference.predict import choose_task
from segcli.inspection.views.photo import OpenedPhoto, batch_of, check_finite, looking
from segcli.metrics.match_classes import ClassMatch, match_classes
from segcli.objective.criterion import SetCriterion, without_crowd
from segcli.objective.matcher import assign
from segcli.postprocess.tiles import class_probabilities, coarse_logits
from segcli.render.colours import class_colours
from segcli.render.views.matching import Assignment
from segcli.training.objectives import objective_of
from segcli.types import InferenceSpec, QueryPredictions, Target, Task
from segcli.weights.checkpoint import LoadedModel

_SURE = 8.0  # logit of a filled box
_TERMS = ("class", "mask", "dice", "box", "giou")  # in the order of the papers; what the matcher has of them


@dataclass(frozen=True)
class TrueObjects:
    """A photo with its truth, labels as the model's class indices. notes: messages for the user."""

    sample: Sample
    notes: tuple[str, ...]


def find_truth(root: Path, photo: OpenedPhoto, spec: InferenceSpec, task: Task | None = None) -> TrueObjects:
    """The truth of a photo in a dataset: the image that is that file, else the only one of its name.

    task: None is the data's own, or the model's where it cannot answer that.
    Raises UsageError for data that is not understood or has no class of the model, InputError where the image is not in
    it, is of another size, or has no objects.
    """
    info = detect(root, task=None if task is None else choose_task(spec, task))
    if info.task not in spec.tasks:
        info = detect(root, task=choose_task(spec, None))
    split, index = info.find(photo.path)
    dataset = open_split(info, split)
    truth = dataset.truth(index, photo.image.shape[:2])
    record = dataset.records[index]
    sample = Sample(photo.image, truth, record.image.place, record.image_id)
    match = match_classes(spec.labels, info.labels, "the model", info.task)
    sample = _as_model_classes(sample, match)
    if not len(sample.labels):
        raise InputError(f"{photo.path}: no objects of the model's classes in {root}, so nothing to match")
    return TrueObjects(sample, match.notes)


def _as_model_classes(sample: Sample, match: ClassMatch) -> Sample:
    """Labels of the data -> class indices of the model; objects of classes that it does not have are left out."""
    index = np.full(len(match.labels), -1, dtype=np.int64)
    known = np.flatnonzero(match.index >= 0)
    index[match.index[known]] = known
    labels = index[sample.labels]
    kept = np.flatnonzero(labels >= 0)
    segment = np.full(len(labels), -1, dtype=np.int64)
    segment[kept] = np.arange(len(kept))
    return dataclasses.replace(sample, truth=sample.truth.relabelled(labels[kept], segment))


def match_queries(loaded: LoadedModel, photo: OpenedPhoto, sample: Sample) -> Assignment:
    """Give every object of a photo to a query, as a training step does with the network's last prediction.

    Objects that lost every pixel at the network's size, and crowd regions, are left out, as in training. The points at
    which masks are compared are drawn from the image's id, as many as training draws by default.
    Of a network without masks the boxes are shown, filled. Raises CheckpointError if its output is not finite.
    """
    prepared, spec = photo.prepared(loaded), loaded.spec
    example = ValTransform(lambda size: prepared.frame.resized)(sample)
    _, (target,) = collate([example], Layout(prepared.frame.padded, spec.size.divisor))
    target = without_crowd(target)
    if not len(target.labels):
        raise InputError(f"{photo.path}: every object is a crowd region or too small for the network's size")
    with looking(photo.path):
        prediction: QueryPredictions = loaded.model(batch_of(loaded, prepared))[-1]
        check_finite([prediction], loaded)
        terms = cost_terms(loaded.config, prediction, target)
        found = assign(torch.stack(list(terms.values())).sum(0))
        queries, objects = found.queries.tolist(), found.targets.tolist()
        probabilities = class_probabilities(prediction, 0)
        truth, padded = example.masks[~example.crowd], prepared.frame.padded
        if prediction.masks is not None:
            logits = coarse_logits(prediction, 0, found.queries.cpu())
        else:
            assert prediction.boxes is not None  # a network answers with masks or boxes
            logits = _filled(prediction.boxes[0, found.queries].float().cpu(), truth.shape[1:], padded)
            truth = (_filled(target.boxes, truth.shape[1:], truth.shape[1:], stride=1) > 0).numpy()
    names = [*spec.labels.names, "no object"]
    scores, classes = probabilities.max(-1)
    return Assignment(
        terms={name: terms[name].float().cpu().numpy() for name in _TERMS if name in terms},
        pairs=tuple(zip(queries, objects, strict=True)),
        objects=tuple(spec.labels.names[k] for k in target.labels.tolist()),
        colours=class_colours(spec.labels)[target.labels.numpy()],
        says=tuple((names[int(classes[q])], float(scores[q])) for q in range(len(scores))),
        truth=truth,
        masks=logits.numpy(),
        ious=_ious(logits, truth, padded),
        shape="box" if prediction.masks is None else "mask",
    )


def cost_terms(config: ModelConfig, prediction: QueryPredictions, target: Target) -> dict[str, Tensor]:
    """The weighted costs of every query and object of the first image, [Q, N] each, by name, as the paper has them.

    Raises UsageError for an architecture that matches nothing.
    """
    objective = objective_of(config)
    if not isinstance(objective, SetCriterion):
        raise UsageError(f"{config.title} has one query per class: there is nothing to match")

    def draw(image_id: str, purpose: str, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=torch_generator(0, 0, image_id, purpose))

    device = prediction.classes.device
    target = dataclasses.replace(target, masks=target.masks.to(device), labels=target.labels.to(device))
    return objective.costs(prediction, [target], draw)[0]


def _filled(boxes: Tensor, size: tuple[int, ...], frame: tuple[int, ...], stride: int = 4) -> Tensor:
    """Boxes [M, 4] (cxcywh, relative to an image of `size`) as logits of full masks over the padded frame [M, h, w]."""
    y, x = ((torch.arange(0, full, stride) + stride / 2) / own for full, own in zip(frame, size, strict=True))
    centre_x, centre_y, wide, high = boxes[:, :, None].unbind(1)  # [M, 1] each
    rows, columns = (y - centre_y).abs() <= high / 2, (x - centre_x).abs() <= wide / 2
    return torch.where(rows[:, :, None] & columns[:, None], _SURE, -_SURE)


def _ious(logits: Tensor, truth: np.ndarray, padded: tuple[int, int]) -> np.ndarray:
    """IoU of each matched query's mask with every object's, at the network's size -> float [M, N]."""
    height, width = truth.shape[1:]
    large = F.interpolate(logits[:, None], size=padded, mode="bilinear", align_corners=False)[:, 0]
    predicted = (large[:, :height, :width] > 0).flatten(1).float()
    wanted = torch.from_numpy(truth).flatten(1).float()
    common = predicted @ wanted.T
    union = predicted.sum(1)[:, None] + wanted.sum(1) - common
    return (common / union.clamp(min=1)).numpy()
