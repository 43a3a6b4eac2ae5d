"""The shape alphabet and the plain types every part is built on.

B batch · Q queries · K classes · N targets · M matched · P points · C, D channels · H W full size · h w feature size.
Importing this module imports neither torch nor numpy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

Task = Literal["panoptic", "instance", "semantic", "detect"]
TASKS: tuple[Task, ...] = get_args(Task)
OBJECT_TASKS: tuple[Task, ...] = ("instance", "detect")  # objects one by one, measured without a threshold
MASK_TASKS: tuple[Task, ...] = ("panoptic", "instance", "semantic")  # answered by masks; "detect" by boxes
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB on a 0..255 scale
IMAGENET_STD = (58.395, 57.12, 57.375)

Device = str  # where to compute: auto (the fastest there is), cpu, cuda, cuda:1, mps, gpu (any GPU)
Precision = Literal["auto", "fp32", "bf16", "fp16"]  # in which a network computes; auto: what is fast and harmless


# --------------------------------------------------------------------------------------------------- tensors


@dataclass
class Batch:
    """Images ready for a model: normalised, then zero-padded right and bottom to one common size."""

    images: Tensor  # [B, 3, H, W] float
    padding: Tensor  # [B, H, W] bool, True where there is no image
    sizes: list[tuple[int, int]]  # B × (h, w) before padding


@dataclass
class Target:
    """The truth of one image of a batch, in the padded frame."""

    labels: Tensor  # [N] int64, class indices (positions in the LabelSet)
    masks: Tensor  # [N, H, W] bool, H × W as `Batch.images`; nothing is set where there is padding
    boxes: Tensor  # [N, 4] cxcywh, relative to the unpadded image
    crowd: Tensor  # [N] bool, regions of many objects that were not told apart
    image_id: str = ""  # names the image in every random draw and every message


class Masks(Protocol):
    """Mask logits of B × Q queries in the padded frame, kept in whatever form is cheapest until pixels are needed."""

    def select(self, batch: int, queries: Tensor) -> Masks:
        """Some queries of one image -> [1, N, ...]."""

    def images(self) -> Sequence[Masks]:
        """The masks of each image by themselves -> B × [1, Q, ...]."""

    def at(self, points: Tensor) -> Tensor:
        """Bilinear logits at points [B, P, 2], xy in [0, 1] of the padded frame -> [B, Q, P]."""

    def resized(self, size: tuple[int, int]) -> Tensor:
        """Bilinear resize, align_corners=False -> [B, Q, h, w]."""

    def dense(self) -> Tensor:
        """All logits at their native stride -> [B, Q, H/4, W/4]."""


@dataclass
class PixelFeatures:
    """What a pixel decoder hands to a query decoder."""

    mask_features: Tensor | None  # [B, C, H/4, W/4], the right factor of every mask
    memory: list[Tensor]  # coarse -> fine, each [B, D, h, w]
    padding: Tensor | None = None  # [B, H, W] bool
    # Coarse -> fine, for a mask head that convolves: the input of the memory's encoder, then the backbone's finer maps.
    pyramid: list[Tensor] = field(default_factory=list)
    # Weight [C, D, k, k] and bias [C] of a convolution that mask_features [B, D, H/4, W/4] have yet to pass.
    mask_proj: tuple[Tensor, Tensor] | None = None

    @property
    def features(self) -> Tensor:
        """The mask features, for a head that makes masks of them."""
        if self.mask_features is None:
            raise ValueError("this pixel decoder makes no mask features")
        return self.mask_features


@dataclass
class QueryPredictions:
    """One prediction layer's answer."""

    classes: Tensor  # [B, Q, K + 1] logits, the last is "no object"
    masks: Masks | None
    boxes: Tensor | None = None  # [B, Q, 4] cxcywh in [0, 1]
    piloted: QueryPredictions | None = None  # [B, G, ...], what the queries of `Pilots` became; training only


@dataclass
class Pilots:
    """Extra queries of a training step that are shown where their objects are (mask-piloted, arXiv 2303.07336).

    Query g of an image is to become object g. Images with fewer objects than G have queries to spare.
    """

    content: Tensor  # [B, G, D] query features
    allowed: list[Tensor]  # L levels, coarse -> fine, each [B, G, h·w] bool: noised true masks, True = may be looked at
    real: Tensor  # [B, G] bool, False for those to spare


@dataclass(frozen=True)
class CocoObjects:
    """The objects of an image as a COCO instance file states them, by which its official evaluator goes.

    annotations: "id", "category_id", "iscrowd", "segmentation" (run lengths or polygons), and "area" and "bbox" where
        they are stated.
    zero: the category of the annotation with the id 0, whichever image of the file it is of; None if there is none.
    """

    annotations: tuple[dict[str, Any], ...]
    zero: int | None


# ---------------------------------------------------------------------------------------------------- labels


@dataclass(frozen=True)
class Label:
    """One class of a dataset. `id` is the dataset's own category id, which need not be the class index."""

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class LabelSet:
    """The classes of a model in the order of its logits: position = class index."""

    labels: tuple[Label, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Label:
        return self.labels[index]

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    @property
    def names(self) -> list[str]:
        return [label.name for label in self.labels]

    @property
    def ids(self) -> list[int]:
        return [label.id for label in self.labels]

    @property
    def isthing(self) -> list[bool]:
        return [label.isthing for label in self.labels]


# ---------------------------------------------------------------------------------------- inference protocol


@dataclass(frozen=True)
class MergeRule:
    """How queries become segments; one per paper and checkpoint (Mask2Former: `maskformer_model.py`).

    score: keep queries whose best class probability is above this (panoptic).
    overlap: drop a segment if less than this share of its own mask survives the argmax.
    mask_min: mask probability a pixel needs to belong to a segment; None = argmax alone decides (MaskFormer).
    combine: where the queries make up class scores (semantic): at the network's input size, whose scores are then
        resized ("padded"), or at the photo's own ("photo"). None: padded for a checkpoint that is semantic only.
    normalise: how mask logits become probabilities: per pixel ("sigmoid") or over queries ("softmax", DETR).
    min_area: segments of this many pixels or fewer are dropped (DETR: 4).
    part_min: of a thing's mask, connected parts smaller than this share of its largest are dropped; 0 = none (every
        paper). The masks of small networks have specks away from the object, which spoil its box.
    repeat_iou: of instances of one class, those whose mask has at least this IoU with a surer one are dropped; None =
        none (every paper). Small networks find an object with several queries.
    instance_score: what `predict` shows of instances; files for evaluation are never thresholded.
    top_k: instances kept over query × class (detectron2's TEST.DETECTIONS_PER_IMAGE).
    instances: of every query and class, scored by class and mask ("pairs"), or every query with its best class, scored
        by that alone ("queries", DETR).
    """

    score: float = 0.8
    overlap: float = 0.8
    mask_min: float | None = 0.5
    normalise: Literal["sigmoid", "softmax"] = "sigmoid"
    min_area: int = 0
    part_min: float = 0.0
    repeat_iou: float | None = None
    instance_score: float = 0.5
    top_k: int = 100
    combine: Literal["padded", "photo"] | None = None
    instances: Literal["pairs", "queries"] = "pairs"

    def in_words(self, task: Task) -> str:
        """The thresholds that a metric of the task is taken at, for a person."""
        if task == "panoptic":
            mask = "masks by argmax" if self.mask_min is None else f"mask ≥ {self.mask_min:g}"
            return f"score > {self.score:g}, overlap ≥ {self.overlap:g}, {mask}{self._parts()}"
        repeats = ""
        if self.repeat_iou is not None:
            repeats = f", instances that repeat a surer one (IoU {self.repeat_iou:g}) left out"
        cleaned = self._parts() + repeats if task == "instance" else ""
        return f"no threshold{cleaned}" if task in OBJECT_TASKS else "class by argmax"

    def shown_in_words(self, task: Task) -> str:
        """The same of what predict shows."""
        return self.in_words(task).replace("no threshold", f"score ≥ {self.instance_score:g}")

    def _parts(self) -> str:
        if self.part_min == 1:
            return ", of each mask the largest part only"
        return f", parts ≥ {self.part_min:g} of the largest" if self.part_min else ""


SMALLEST_TILE = 64  # pixels a side; less shows a network nothing


@dataclass(frozen=True)
class InputSize:
    """Resize the short side to `short`, cap the long side at `long`, pad to a multiple of `divisor`.

    rounding: of the other side, to the nearest pixel (detectron2), down (DETR) or to the nearest even at halves (EoMT).
    frame: what is padded to: a multiple of `divisor`, or a square with the long side (EoMT, which then fits the photo
        into a square of `short`). "windows": nothing is; the network sees square windows along the long side, and class
        scores are averaged where they overlap (EoMT, semantic).
    fill: padding is the mean colour, or black as before the normalisation (EoMT).
    tile: side, in pixels of the photo, of the square windows that are resized and predicted one by one, for objects too
        small or too many for one look; None: the photo as a whole. A photo that is smaller is resized like any other.
    tile_overlap: share of a tile that its neighbour covers too.
    tile_for: short side of the photos that `tile` is meant for; in others it grows and shrinks with theirs, as a scene
        is the same whatever the camera. None: as many pixels in every photo, as under a microscope.
    """

    short: int = 800
    long: int = 1333
    divisor: int = 32
    rounding: Literal["nearest", "down", "even"] = "nearest"
    frame: Literal["multiple", "square", "windows"] = "multiple"
    fill: Literal["mean", "black"] = "mean"
    tile: int | None = None
    tile_overlap: float = 0.2
    tile_for: int | None = None

    def tile_of(self, photo: tuple[int, int]) -> int | None:
        """Side of the tiles in pixels of a photo of (height, width); None: it is predicted as a whole."""
        if self.tile is None or self.tile_for is None:
            return self.tile
        return max(1, round(self.tile * min(photo) / self.tile_for))

    def to_table(self) -> dict[str, Any]:
        """Every entry by name; those of tiles only where there are tiles."""
        own = {"frame": "multiple", "fill": "mean"}  # said only where they differ
        table = {key: value for key, value in asdict(self).items() if self.tile or not key.startswith("tile")}
        return {key: value for key, value in table.items() if value is not None and value != own.get(key)}

    def in_words(self) -> str:
        """The same for a person."""
        if self.tile:
            where = f", for photos of {self.tile_for}" if self.tile_for else ""
            return f"tiles of {self.tile} pixels{where}, resized to {self.short}"
        if self.frame == "square":
            return f"fitted into {self.short}×{self.short}, padded to a square"
        if self.frame == "windows":
            return f"square windows of {self.short} along the long side"
        return f"short side {self.short}, long side at most {self.long}"


@dataclass(frozen=True)
class Frame:
    """The three sizes (height, width) an image goes through: as decoded, as resized, as padded for the network."""

    original: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]


@dataclass(frozen=True)
class InferenceSpec:
    """Everything outside the network that a checkpoint's published numbers depend on."""

    tasks: tuple[Task, ...]
    labels: LabelSet
    size: InputSize = field(default_factory=InputSize)
    rule: MergeRule = field(default_factory=MergeRule)
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    levels: tuple[float, float] | None = None  # black and white in pictures of more than 8 bits; None: each one's own

    @property
    def combine_padded(self) -> bool:
        """Whether queries make up class scores at the network's input size, as semantic checkpoints were measured."""
        if self.rule.combine is not None:
            return self.rule.combine == "padded"
        return self.tasks == ("semantic",)
