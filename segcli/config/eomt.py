"""EoMT's configuration (arXiv 2503.19108), of both of transformers' architectures: DINOv2 and DINOv3 below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from segcli.config.backbones import BackboneConfig
from segcli.config.backbones.vit import PATCH, VIT_SIZES, ViTConfig, as_vit
from segcli.config.checks import check_facts, class_count, numbers, share
from segcli.config.model_config import ModelConfig, ObjectiveName
from segcli.errors import CheckpointError
from segcli.types import MASK_TASKS, InputSize, MergeRule, Task

_NUMBERS = {"num_queries": "num_queries", "joint_blocks": "num_blocks", "upscale_blocks": "num_upscale_blocks"}
_DINOV3 = "eomt_dinov3"
_MOST_UPSCALING = 4
# The sizes behind the names in the authors' own config.json, which says nothing else of the backbone.
_AUTHORS: dict[Any, dict[str, Any]] = {
    f"vit_{size}_patch14_reg4_dinov2": {
        "hidden_size": dim,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "use_swiglu_ffn": size == "giant",
    }
    for size, (dim, depth, heads) in VIT_SIZES.items()
} | {
    f"dinov3-vit{size[0]}16-pretrain-lvd1689m": {
        "hidden_size": dim,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": 4 * dim,
    }
    for size, (dim, depth, heads) in VIT_SIZES.items()
    if size != "giant"
}
_CLASSES = {"table": "EomtForUniversalSegmentation", "rotary": "EomtDinov3ForUniversalSegmentation"}
_POINTS = {"train_num_points": 12544, "oversample_ratio": 3.0, "importance_sample_ratio": 0.75}


@dataclass(frozen=True)
class EomtConfig(ModelConfig):
    """EoMT: a ViT whose last blocks see queries and patches together."""

    num_queries: int = 200
    joint_blocks: int = 3  # of the ViT's blocks, those that the queries take part in
    upscale_blocks: int = 2  # each doubles the resolution of the patches for the masks
    no_object_weight: float = 0.1

    model_type: ClassVar[str] = "eomt"
    reads: ClassVar[tuple[str, ...]] = (_DINOV3,)
    module: ClassVar[str] = "eomt"
    title: ClassVar[str] = "EoMT"
    arxiv: ClassVar[str] = "2503.19108"
    image_processor: ClassVar[str | None] = "EomtImageProcessor"
    tasks: ClassVar[tuple[Task, ...]] = MASK_TASKS
    rule: ClassVar[MergeRule] = MergeRule()
    size: ClassVar[InputSize] = InputSize(640, 640, divisor=16, rounding="even", frame="square", fill="black")
    sizes: ClassVar[tuple[str, ...]] = ()
    small: ClassVar[Mapping[str, int]] = {}
    objective: ClassVar[ObjectiveName] = "points"
    loss_weights: ClassVar[Mapping[str, float]] = {
        "class_weight": 2.0,
        "mask_weight": 5.0,
        "dice_weight": 5.0,
        "no_object_weight": 0.1,
    }

    @classmethod
    def recipe(cls, backbone: str) -> Mapping[str, Mapping[str, Any]]:
        """The published recipes (configs of the authors' code): 16 images a step, the gradient's norm held at 0.01."""
        rotary = backbone.startswith("dinov3")
        return {
            "schedule": {
                "lr": 2e-4 if rotary else 1e-4,
                "reference_batch": 16,
                "backbone_lr": 1.0,
                "layer_decay": 0.8,
                "joint_decay": not rotary,
                "decay_all": True,
                "clip": 0.01,
                "schedule": "warm-poly",
                "warmup": 2000 if rotary else 500,
                "backbone_warmup": 3000 if rotary else 1000,
            }
        }

    @classmethod
    def takes(cls, backbone: BackboneConfig) -> bool:
        """A plain ViT."""
        return isinstance(backbone, ViTConfig)

    @property
    def vit(self) -> ViTConfig:
        """The backbone, as what it is."""
        return as_vit(self.backbone)

    @property
    def hidden_dim(self) -> int:
        """Width of a query, which is that of the ViT."""
        return self.vit.dim

    @property
    def transformers_class(self) -> str:
        """The class of transformers that loads a folder of this model."""
        return _CLASSES[self.vit.positions]

    @property
    def own_size(self) -> InputSize:
        """The square that the ViT was made for."""
        return replace(self.size, short=self.vit.image_size, long=self.vit.image_size)

    def for_size(self, size: InputSize) -> Self:
        """With positions for the square of a test size."""
        patch = self.vit.patch_size
        return replace(self, backbone=replace(self.vit, image_size=-(-size.short // patch) * patch))

    @classmethod
    def size_for(cls, task: Task, short: int, long: int) -> InputSize:
        """The square or the windows of a task, of side `short`."""
        return replace(cls.size, short=short, long=short, frame="windows" if task == "semantic" else "square")

    @property
    def annealing(self) -> tuple[tuple[float, float], ...]:
        """When each joint block's attention masks begin to be left out and are gone, as shares of a training run: the
        earlier blocks first, from 1/6 of the run to 4/6, each within 1/6; on DINOv3 the first block's go at once. So it
        was published for S and B, L and g.
        """
        last = max(self.joint_blocks - 1, 1)
        starts = [1 / 6 + index / last * 3 / 6 for index in range(self.joint_blocks)]
        spans = [(start, start + 1 / 6) for start in starts]
        if self.vit.positions == "rotary":
            spans[0] = (0.0, 0.03)
        return tuple(spans)

    @classmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self:
        """Of a parsed `config.json`; CheckpointError for what the code here cannot build."""
        check_facts(raw, {"hidden_act": "gelu", "num_channels": 3, "hidden_dropout_prob": 0.0}, where)
        known = _AUTHORS.get(str(raw.get("backbone")).rpartition("/")[2], {})
        raw = {**known, **raw}
        rotary = raw["model_type"] == _DINOV3 or "intermediate_size" in known
        config = cls(
            backbone=ViTConfig.rotary(raw, where) if rotary else ViTConfig.table(raw, where),
            num_classes=class_count(raw, where),
            no_object_weight=share(raw, "no_object_weight", 0.1, where),
            **numbers({"num_blocks": 4, **raw}, _NUMBERS, where),
        )
        if config.upscale_blocks > _MOST_UPSCALING:
            raise CheckpointError(
                f"{where}: num_upscale_blocks is {config.upscale_blocks}; expected at most {_MOST_UPSCALING}"
            )
        if config.joint_blocks > config.vit.depth:
            raise CheckpointError(f"{where}: num_blocks {config.joint_blocks} of {config.vit.depth} num_hidden_layers")
        return config

    @classmethod
    def new(cls, backbone: BackboneConfig, num_classes: int, sizes: Mapping[str, int]) -> Self:
        """Around a ViT, brought to patches of 16 pixels; the blocks that queries take part in are the paper's."""
        vit = replace(as_vit(backbone), patch_size=PATCH, image_size=640)
        return cls(vit, num_classes, joint_blocks=joint_blocks(vit.depth))

    def raw(self) -> dict[str, Any]:
        """The `config.json` but for the names of the classes; `parse` reads it back."""
        weights = {name: self.loss_weights[name] for name in ("class_weight", "mask_weight", "dice_weight")}
        return (
            {
                "architectures": [self.transformers_class],
                "model_type": self.model_type if self.vit.positions == "table" else _DINOV3,
                **self.vit.raw(),
                **{theirs: getattr(self, ours) for ours, theirs in _NUMBERS.items()},
                "no_object_weight": self.no_object_weight,
                "hidden_dropout_prob": 0.0,
                "dtype": "float32",
            }
            | weights
            | _POINTS
        )


def joint_blocks(depth: int) -> int:
    """How many blocks of a ViT the queries take part in, as published; a quarter of another depth."""
    return {12: 3, 24: 4, 40: 5}.get(depth, max(1, depth // 4))
