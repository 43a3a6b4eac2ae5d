"""Names in the checkpoints of the authors' own code: facebookresearch/Mask2Former and MaskFormer (detectron2), detr."""

from __future__ import annotations

from segcli.config.backbones import BackboneConfig
from segcli.config.backbones.swin import SwinConfig
from segcli.config.detr import DetrConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.config.maskformer import MaskFormerConfig
from segcli.weights.keys import timm_resnet, timm_swin
from segcli.weights.keys.detr import MASK_HEAD
from segcli.weights.keys.table import Table

PIXEL = "sem_seg_head.pixel_decoder"
PREDICTOR = "sem_seg_head.predictor"
COMPUTED = (r"criterion\.empty_weight", r"pixel_(mean|std)")

SWIN = {
    f"backbone.{theirs}": f"backbone.{ours}"
    for theirs, ours in timm_swin.RENAMED.items()
    if "downsample" not in theirs  # the authors join patches at the end of a stage, as the code here does
} | {
    "backbone.layers.*.downsample": "backbone.stages.*.downsample",
    **{f"backbone.norm{i}": f"backbone.norms.{i}" for i in range(4)},
}


def _convolution(theirs: str, ours: str) -> dict[str, str]:
    """detectron2's convolution holds its norm."""
    return {f"{theirs}.weight": f"{ours}.conv.weight", f"{theirs}.norm": f"{ours}.norm"}


RESNET = _convolution("backbone.stem.conv1", "backbone.stem")
for _stage in range(4):
    for _name in ("conv1", "conv2", "conv3", "shortcut"):
        RESNET |= _convolution(f"backbone.res{_stage + 2}.*.{_name}", f"backbone.stages.{_stage}.*.{_name}")

HEAD = {
    f"{PREDICTOR}.class_embed": "head.classifier",
    f"{PREDICTOR}.mask_embed.layers.*": "head.mask_embed.layers.*",
    f"{PIXEL}.mask_features": "pixel_decoder.mask_proj",
}

_DEFORMABLE = f"{PIXEL}.transformer.encoder.layers.*"
_CROSS = f"{PREDICTOR}.transformer_cross_attention_layers.*"
_SELF = f"{PREDICTOR}.transformer_self_attention_layers.*"
_FFN = f"{PREDICTOR}.transformer_ffn_layers.*"
MASK2FORMER = {
    f"{PIXEL}.transformer.level_embed": "pixel_decoder.level_embed",
    f"{PIXEL}.input_proj.*.0": "pixel_decoder.input_proj.*.conv",
    f"{PIXEL}.input_proj.*.1": "pixel_decoder.input_proj.*.norm",
    f"{_DEFORMABLE}.self_attn": "pixel_decoder.layers.*.attention",
    f"{_DEFORMABLE}.norm1": "pixel_decoder.layers.*.norm1",
    f"{_DEFORMABLE}.linear1": "pixel_decoder.layers.*.fc1",
    f"{_DEFORMABLE}.linear2": "pixel_decoder.layers.*.fc2",
    f"{_DEFORMABLE}.norm2": "pixel_decoder.layers.*.norm2",
    **_convolution(f"{PIXEL}.adapter_1", "pixel_decoder.lateral"),
    **_convolution(f"{PIXEL}.layer_1", "pixel_decoder.output"),
    f"{PREDICTOR}.query_feat.weight": "query_decoder.query_features",
    f"{PREDICTOR}.query_embed.weight": "query_decoder.query_positions",
    f"{PREDICTOR}.level_embed.weight": "query_decoder.level_embed",
    f"{_CROSS}.multihead_attn": "query_decoder.layers.*.cross",
    f"{_CROSS}.norm": "query_decoder.layers.*.cross_norm",
    f"{_SELF}.self_attn": "query_decoder.layers.*.self_attention",
    f"{_SELF}.norm": "query_decoder.layers.*.self_norm",
    f"{_FFN}.linear1": "query_decoder.layers.*.fc1",
    f"{_FFN}.linear2": "query_decoder.layers.*.fc2",
    f"{_FFN}.norm": "query_decoder.layers.*.norm",
    f"{PREDICTOR}.decoder_norm": "head.norm",
}


def _decoder(theirs: str) -> dict[str, str]:
    """DETR's decoder with this prefix, which MaskFormer took over."""
    layer, own = f"{theirs}.layers.*", "query_decoder.layers.*"
    return {
        f"{layer}.self_attn": f"{own}.self_attention",
        f"{layer}.norm1": f"{own}.self_norm",
        f"{layer}.multihead_attn": f"{own}.cross",
        f"{layer}.norm2": f"{own}.cross_norm",
        f"{layer}.linear1": f"{own}.fc1",
        f"{layer}.linear2": f"{own}.fc2",
        f"{layer}.norm3": f"{own}.norm",
        f"{theirs}.norm": "head.norm",
    }


def _encoder(theirs: str) -> dict[str, str]:
    """DETR's encoder with this prefix."""
    layer, own = f"{theirs}.layers.*", "pixel_decoder.encoder.layers.*"
    return {
        f"{layer}.self_attn": f"{own}.attention",
        f"{layer}.norm1": f"{own}.attention_norm",
        f"{layer}.linear1": f"{own}.fc1",
        f"{layer}.linear2": f"{own}.fc2",
        f"{layer}.norm2": f"{own}.norm",
    }


MASKFORMER = {
    **_convolution(f"{PIXEL}.layer_4", "pixel_decoder.stem"),
    f"{PREDICTOR}.query_embed.weight": "query_decoder.query_positions",
    f"{PREDICTOR}.input_proj": "query_decoder.input_proj",
    **_decoder(f"{PREDICTOR}.transformer.decoder"),
    # Of the "6Enc" variants.
    f"{PIXEL}.input_proj": "pixel_decoder.input_proj",
    **_encoder(f"{PIXEL}.transformer.encoder"),
}
for _level in (1, 2, 3):  # the authors count from fine to coarse, the code here in the order of use
    MASKFORMER |= _convolution(f"{PIXEL}.adapter_{_level}", f"pixel_decoder.laterals.{3 - _level}")
    MASKFORMER |= _convolution(f"{PIXEL}.layer_{_level}", f"pixel_decoder.outputs.{3 - _level}")

DETR = {
    **{f"backbone.0.body.{theirs}": f"backbone.{ours}" for theirs, ours in timm_resnet.RENAMED.items()},
    "input_proj": "pixel_decoder.input_proj",
    **_encoder("transformer.encoder"),
    "query_embed.weight": "query_decoder.query_positions",
    **_decoder("transformer.decoder"),
    "class_embed": "head.classifier",
    "bbox_embed.layers.*": "head.box_embed.layers.*",
}


def mask2former(config: Mask2FormerConfig) -> list[Table]:
    """Every name of a Mask2Former."""
    return [_backbone(config.backbone), Table(HEAD | MASK2FORMER, dropped=COMPUTED)]


def maskformer(config: MaskFormerConfig) -> list[Table]:
    """Every name of a MaskFormer."""
    return [_backbone(config.backbone), Table(HEAD | MASKFORMER, dropped=COMPUTED)]


def detr(config: DetrConfig) -> list[Table]:
    """Every name of a DETR. Its norms are constants and have no counter."""
    return [Table(DETR | (MASK_HEAD if config.masks else {}), dropped=(r".*\.num_batches_tracked",))]


def _backbone(config: BackboneConfig) -> Table:
    if isinstance(config, SwinConfig):
        return Table(SWIN, dropped=(r"backbone\..*\.relative_position_index",))
    return Table(RESNET)


def modern(name: str) -> str:
    """A name as the second version of the MaskFormers' code has it, which reads both, as this does; of a DETR with
    masks, as one without has it.
    """
    name = name.removeprefix("detr.")
    if name.startswith("sem_seg_head.") and not name.startswith((f"{PIXEL}.", f"{PREDICTOR}.")):
        name = name.replace("sem_seg_head.", f"{PIXEL}.", 1)
    return name.replace(".static_query.", ".query_feat.")
