"""A network that another one learns from: `segcli train --teacher MODEL`."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from segcli.errors import UsageError
from segcli.models.segmenter import Segmenter
from segcli.objective.distillation import Distillation, soft_targets
from segcli.training.recipe import LossTable
from segcli.types import Batch, InferenceSpec, LabelSet, QueryPredictions
from segcli.weights.checkpoint import LoadedModel, load_model
from segcli.weights.download import Progress


@dataclass(frozen=True)
class Teacher:
    """A frozen network beside the one that learns. It sees the same crops, in the same precision."""

    loaded: LoadedModel
    student: InferenceSpec
    columns: Tensor  # [K + 1], which of its class logits each of the student's is
    distance: Distillation
    weight: float

    def loss(self, batch: Batch, student: QueryPredictions, objects: float, autocast: torch.dtype | None) -> Tensor:
        """How far the student's last answer for a batch is from the teacher's, weighted; see `Distillation`."""
        device = self.loaded.device
        half = torch.autocast(device.type, autocast) if autocast else nullcontext()
        with torch.no_grad(), half:
            answer = self.loaded.model(self._seen(batch))[-1]
        targets = soft_targets(answer, self.columns, student.classes.shape[1])
        return self.weight * self.distance(student, targets, objects)

    def _seen(self, batch: Batch) -> Batch:
        """A batch as the teacher's own normalisation has it, padding black or of the mean colour."""
        spec, images = self.loaded.spec, batch.images
        ours, theirs = (_statistics(s, images) for s in (self.student, spec))
        if torch.equal(ours, theirs) and self.student.size.fill == spec.size.fill:
            return batch
        pixels = images * ours[1] + ours[0]
        empty = -theirs[0] / theirs[1] if spec.size.fill == "black" else torch.zeros_like(theirs[0])
        seen = torch.where(batch.padding[:, None], empty, (pixels - theirs[0]) / theirs[1])
        return Batch(seen, batch.padding, batch.sizes)

    @property
    def described(self) -> str:
        """For people: its name and its licence."""
        name, licence = self.loaded.name, self.loaded.facts.get("licence")
        return f"{name} ({licence})" if licence else name

    def fingerprint(self) -> dict[str, str]:
        """Its weights, which a resumed run must find again, wherever they lie then."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.loaded.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().flatten().view(torch.uint8).numpy())
        return {"teacher": f"weights {digest.hexdigest()[:12]}"}


def _statistics(spec: InferenceSpec, like: Tensor) -> Tensor:
    """Mean and deviation, [2, 3, 1, 1]."""
    return like.new_tensor([spec.mean, spec.std]).view(2, 3, 1, 1)


def load_teacher(loss: LossTable, student: LoadedModel, progress: Progress | None) -> Teacher | None:
    """The teacher of a recipe; None if it has none.

    Raises UsageError if one of the two answers in another form than queries with masks, or for other classes; and
    whatever loading a model raises.
    """
    if loss.teacher is None:
        return None
    device = student.device.type
    loaded = load_model(loss.teacher, device, "fp32", progress=progress)
    if not isinstance(loaded.model, Segmenter):
        raise UsageError(f"--teacher {loss.teacher} is an exported model; give the one that it was exported from")
    for model, who in ((loaded, "teaches"), (student, "learns")):
        if model.config.objective not in ("points", "pixels"):
            raise UsageError(
                f"--teacher {loss.teacher}: the model that {who} is a {model.config.title}, without masks of queries; "
                "both must be a Mask2Former, MaskFormer or EoMT"
            )
    columns = _columns(loss.teacher, loaded.labels, student.labels)
    loaded.model.requires_grad_(False).eval()
    weights = (loss.class_weight, loss.mask_weight, loss.dice_weight)
    distance = Distillation(*(weight or 0.0 for weight in weights))
    return Teacher(loaded, student.spec, columns.to(student.device), distance, loss.teacher_weight)


def _columns(ref: str, theirs: LabelSet, ours: LabelSet) -> Tensor:
    """Which of the teacher's classes each of the student's is, and "no object" last."""
    place = {name: index for index, name in enumerate(theirs.names)}
    missing = [name for name in ours.names if name not in place]
    unknown = [name for name in theirs.names if name not in ours.names]
    if missing or unknown or len(place) != len(ours):
        parts = [("lacks", missing), ("has", unknown)]
        differ = " and ".join(f"{word} {_listed(names)}" for word, names in parts if names) or "names one twice"
        raise UsageError(f"--teacher {ref}: its classes must be those of the data, by name, but it {differ}")
    return torch.tensor([*(place[name] for name in ours.names), len(theirs)])


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
