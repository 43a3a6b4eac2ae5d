"""How to train, as data: flat tables, as a preset, a TOML file and options fill them (see `resolve.py`).

`Recipe` is what was asked for, where None leaves a value to the data, the device or the architecture. `FittedRecipe`
has what data and device decide, `FullRecipe` everything; their narrower types say so. Ranges stand beside the fields
and are checked by pydantic whenever a table is made.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, Strict
from pydantic.dataclasses import dataclass

from segcli.config import MODEL_TYPES
from segcli.config.mask2former import Mask2FormerConfig
from segcli.types import SMALLEST_TILE, Task

LoggerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]  # see `loggers.py`
Tables = dict[str, dict[str, Any]]

T = TypeVar("T")
_strict = ConfigDict(extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Strict(), Field(ge=1)]
Natural = Annotated[int, Strict(), Field(ge=0)]
Pixels = Annotated[int, Strict(), Field(ge=32)]
Positive = Annotated[float, Strict(), Field(gt=0)]
NotNegative = Annotated[float, Strict(), Field(ge=0)]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]
Flag = Annotated[bool, Strict()]


@dataclass(frozen=True, kw_only=True, config=_strict)
class ModelTable:
    """What is trained: a checkpoint or a network around an ImageNet backbone, exactly one."""

    arch: str | None = None  # of a new network; None: mask2former
    start: str | None = None  # a checkpoint to begin from: a folder, a name or org/name
    backbone: str | None = None  # of a new network
    freeze_backbone: Flag = False  # keep its weights as they are
    queries: Count | None = None  # of a checkpoint or a new network; None: as many as it has
    # Sizes of a new network; None: those that go with the backbone.
    hidden_dim: Annotated[int, Strict(), Field(ge=32, multiple_of=32)] | None = None  # shared by heads and norm groups
    encoder_layers: Natural | None = None
    encoder_feedforward_dim: Count | None = None
    decoder_layers: Count | None = None
    dim_feedforward: Count | None = None

    @property
    def origin(self) -> str | None:
        """The checkpoint or the backbone it begins from."""
        return self.start or self.backbone


@dataclass(frozen=True, kw_only=True, config=_strict)
class DataTable:
    """Which data, and at which size they are predicted."""

    path: str | None = None
    format: str | None = None  # None: detected
    binary: Flag = False  # label maps are black and white
    task: Task | None = None  # None: the data's own
    short: Count | None = None  # short side in prediction and validation; None: from the images
    long: Count | None = None  # the long side's limit; None: 5/3 of short
    tile: Annotated[int, Strict(), Field(ge=SMALLEST_TILE)] | None = None  # predict in squares of so many photo pixels
    # Images with a class that is in a smaller share of them are shown more often (repeat factors, arXiv 1908.03195).
    repeat_threshold: Fraction = 0.0
    tile_for: Count | None = None  # short side of the photos `tile` is meant for; it grows with theirs; None: fixed


@dataclass(frozen=True, kw_only=True, config=_strict)
class AugmentTable:
    """How images are changed before they are learnt from."""

    # What `scale` is relative to. jitter: the size in prediction; fit: the size that just fits the crop (COCO's
    # recipe); native: the image's own; short-side: 16 fixed sizes in `scale` × the size in prediction (ADE20K's).
    kind: Literal["jitter", "fit", "native", "short-side"]
    scale: tuple[Positive, Positive]  # range of random factors
    crop: tuple[Pixels, Pixels] | None = None  # height, width; None: from the size in prediction
    max_class_share: Annotated[Positive, Field(le=1)] = 1.0  # short-side: crop again while one class has more
    flip: Fraction = 0.5  # probability of a mirrored image
    colour: Flag = True  # change brightness, contrast, saturation and hue
    mosaic: Fraction = 0.0  # probability of a picture made of four (arXiv 2004.10934)
    copy_paste: Fraction = 0.0  # probability of objects of another image laid over it (arXiv 2012.07177); not semantic

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale = {list(self.scale)}; expected two factors, the smaller first")


@dataclass(frozen=True, kw_only=True, config=_strict)
class ScheduleTable:
    """How long, how many images a step, and how fast."""

    batch: Natural  # images a device and micro-batch; 0: what fits
    accumulate: Count  # micro-batches a step
    lr: Positive  # learning rate for `reference_batch` images a step
    backbone_lr: NotNegative  # the backbone's, as a share of lr
    reference_batch: Natural  # another number of images scales lr; 0: never
    weight_decay: NotNegative
    clip: NotNegative  # greatest norm of the gradient; 0: none
    ema: Annotated[float, Strict(), Field(ge=0, lt=1)]  # decay of the average of the weights; 0: none
    # warm-poly (EoMT): the backbone rests in the warm-up, then has its own of `backbone_warmup` steps.
    schedule: Literal["poly", "step", "constant", "warm-poly"]
    warmup: Natural  # steps in which the rate rises
    backbone_warmup: Natural = 0
    layer_decay: Annotated[Fraction, Field(gt=0)] = 1.0  # each layer of a ViT learns so much as fast as the next
    joint_decay: Flag = True  # …, also those that queries take part in
    decay_all: Flag = False  # weight decay on norms, biases and embeddings too
    steps: Count | None = None  # the length; or:
    epochs: Positive | None = None  # …, which a run turns into steps, and notes both
    least_steps: Natural = 0  # that epochs make
    power: NotNegative = 0.9  # poly
    milestones: tuple[Fraction, ...] = (0.889, 0.963)  # step: shares of the run


@dataclass(frozen=True, kw_only=True, config=_strict)
class LossTable:
    """The objective. A weight that is None is the architecture's paper's."""

    # Where Mask2Former compares masks and takes losses (arXiv 2112.01527, §3.3); the others do so at all pixels.
    points: Count
    oversample: Annotated[float, Strict(), Field(ge=1)]
    importance: Fraction
    class_weight: NotNegative | None = None
    mask_weight: NotNegative | None = None
    dice_weight: NotNegative | None = None
    box_weight: NotNegative | None = None
    giou_weight: NotNegative | None = None
    no_object_weight: Positive | None = None
    teacher: str | None = None  # a model whose answers are learnt from beside the truth: a folder, a name or org/name
    teacher_weight: NotNegative = 1.0  # of the distance to them
    pilots: Flag = False  # mask-piloted queries beside the learnable ones (arXiv 2303.07336), Mask2Former only


@dataclass(frozen=True, kw_only=True, config=_strict)
class ValidateTable:
    """When the validation images are measured, and what follows."""

    every: Count | None = None  # steps between validations; None: about ten in a run
    patience: Natural  # validations without a better metric before stopping; 0: never
    images: Natural  # use only the first so many; 0: all
    score: Fraction  # a query's least score in the PQ


@dataclass(frozen=True, kw_only=True, config=_strict)
class RunTable:
    """What does not change what is learnt, but for seed and precision."""

    seed: Annotated[int, Strict(), Field(ge=0, lt=2**63)]
    dtype: Literal["auto", "fp32", "bf16", "fp16"]  # of the network; matching and losses are always fp32
    device: Literal["auto", "cpu", "cuda", "mps"]
    workers: Annotated[int, Strict(), Field(ge=-1)]  # image-loading processes; -1: what the machine has cores for
    checkpoint_every: Count | None = None  # steps; None: at every validation and at least every five minutes
    give_up_after: Count  # batches in a row that were not finite
    log: tuple[LoggerName, ...] = ()  # experiment trackers that get the numbers too


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What was asked for."""

    model: ModelTable
    data: DataTable
    augment: AugmentTable
    schedule: ScheduleTable
    loss: LossTable
    validate: ValidateTable
    run: RunTable
    preset: str = "small"

    def __post_init__(self) -> None:
        """Raises ValueError for tables that do not go together."""
        tile, arch = self.data.tile, self.model.arch
        if tile is not None and self.augment.kind != "jitter":
            raise ValueError(
                f"--tile {tile}: [augment] kind = {self.augment.kind!r} would learn at another scale than it predicts; "
                "use the preset small, or kind = 'jitter'"
            )
        if arch not in (None, *MODEL_TYPES):
            raise ValueError(f"--arch {arch}: choose one of {', '.join(MODEL_TYPES)}")
        layers = self.model.decoder_layers
        if arch in (None, Mask2FormerConfig.model_type) and layers is not None and layers < 3:
            raise ValueError(
                f"[model] decoder_layers = {layers}; expected at least 3, one for each level of the pixel decoder"
            )


AnyTable = ModelTable | DataTable | AugmentTable | ScheduleTable | LossTable | ValidateTable | RunTable
TABLES = tuple(field.name for field in dataclasses.fields(Recipe) if field.name != "preset")


# -------------------------------------------------------------------------------------- what data and device decide


@dataclass(frozen=True, kw_only=True, config=_strict)
class FittedData(DataTable):
    """The data, and the size that suits them."""

    path: str
    short: Count
    long: Count


@dataclass(frozen=True, kw_only=True, config=_strict)
class FittedModel(ModelTable):
    """With something to begin from."""

    @property
    def origin(self) -> str:
        """The checkpoint or the backbone it begins from."""
        return self.start or self.backbone or "lite0"


@dataclass(frozen=True, kw_only=True, config=_strict)
class FittedAugment(AugmentTable):
    """With a size of the crops."""

    crop: tuple[Pixels, Pixels]


@dataclass(frozen=True, kw_only=True, config=_strict)
class FittedRun(RunTable):
    """With what the machine is best at."""

    dtype: Literal["fp32", "bf16", "fp16"]
    workers: Natural


@dataclass(frozen=True, kw_only=True)
class FittedRecipe(Recipe):
    """The recipe for some data on a device; the batch, the length and the weights of the losses may be open yet."""

    model: FittedModel
    data: FittedData
    augment: FittedAugment
    run: FittedRun


# -------------------------------------------------------------------------------------------- nothing is open any more


@dataclass(frozen=True, kw_only=True, config=_strict)
class FullSchedule(ScheduleTable):
    """With a batch and a length."""

    batch: Count
    steps: Count


@dataclass(frozen=True, kw_only=True, config=_strict)
class FullValidate(ValidateTable):
    """With a distance."""

    every: Count


@dataclass(frozen=True, kw_only=True)
class FullRecipe(FittedRecipe):
    """What a run does, in every detail."""

    schedule: FullSchedule
    validate: FullValidate


def narrowed(kind: type[T], wider: Recipe | AnyTable, **decided: Any) -> T:
    """A table or recipe as a narrower type of it, with what was decided; the values are checked again."""
    own = {field.name: getattr(wider, field.name) for field in dataclasses.fields(wider)}
    return kind(**own | decided)


def to_tables(recipe: Recipe) -> Tables:
    """The recipe as plain tables, without what is None."""
    return {
        name: {key: value for key, value in dataclasses.asdict(getattr(recipe, name)).items() if value is not None}
        for name in TABLES
    }


def to_toml(recipe: Recipe) -> str:
    """The recipe as a `--config` file."""
    import tomli_w

    return tomli_w.dumps({"preset": recipe.preset, **to_tables(recipe)})
