"""Names in the checkpoints of the authors' own code: facebookresearch/Mask2Former and MaskFormer (detectron2)."""

from __future__ import annotations

from segcli.config import BackboneConfig, Mask2FormerConfig, MaskFormerConfig, SwinConfig
from segcli.weights.keys import timm_swin
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

_LAYER = f"{PREDICTOR}.transformer.decoder.layers.*"
MASKFORMER = {
    **_convolution(f"{PIXEL}.layer_4", "pixel_decoder.stem"),
    # The authors count from fine to coarse, the code here in the order of use.
    **{
        k: v
        for i in (1, 2, 3)
        for k, v in _convolution(f"{PIXEL}.adapter_{i}", f"pixel_decoder.laterals.{3 - i}").items()
    },
    **{
        k: v for i in (1, 2, 3) for k, v in _convolution(f"{PIXEL}.layer_{i}", f"pixel_decoder.outputs.{3 - i}").items()
    },
    f"{PREDICTOR}.query_embed.weight": "query_decoder.query_positions",
    f"{PREDICTOR}.input_proj": "query_decoder.input_proj",
    f"{_LAYER}.self_attn": "query_decoder.layers.*.self_attention",
    f"{_LAYER}.norm1": "query_decoder.layers.*.self_norm",
    f"{_LAYER}.multihead_attn": "query_decoder.layers.*.cross",
    f"{_LAYER}.norm2": "query_decoder.layers.*.cross_norm",
    f"{_LAYER}.linear1": "query_decoder.layers.*.fc1",
    f"{_LAYER}.linear2": "query_decoder.layers.*.fc2",
    f"{_LAYER}.norm3": "query_decoder.layers.*.norm",
    f"{PREDICTOR}.transformer.decoder.norm": "head.norm",
}
# Of the "6Enc" variants.
_ENCODER = f"{PIXEL}.transformer.encoder.layers.*"
MASKFORMER_ENCODER = {
    f"{PIXEL}.input_proj": "pixel_decoder.input_proj",
    f"{_ENCODER}.self_attn": "pixel_decoder.encoder.layers.*.attention",
    f"{_ENCODER}.norm1": "pixel_decoder.encoder.layers.*.attention_norm",
    f"{_ENCODER}.linear1": "pixel_decoder.encoder.layers.*.fc1",
    f"{_ENCODER}.linear2": "pixel_decoder.encoder.layers.*.fc2",
    f"{_ENCODER}.norm2": "pixel_decoder.encoder.layers.*.norm",
}


def mask2former(config: Mask2FormerConfig) -> list[Table]:
    """Every name of a Mask2Former."""
    return [_backbone(config.backbone), Table(HEAD | MASK2FORMER, dropped=COMPUTED)]


def maskformer(config: MaskFormerConfig) -> list[Table]:
    """Every name of a MaskFormer."""
    return [_backbone(config.backbone), Table(HEAD | MASKFORMER | MASKFORMER_ENCODER, dropped=COMPUTED)]


def _backbone(config: BackboneConfig) -> Table:
    if isinstance(config, SwinConfig):
        return Table(SWIN, dropped=(r"backbone\..*\.relative_position_index",))
    return Table(RESNET)


def modern(name: str) -> str:
    """A name as the second version of the authors' code has it, which reads both, as this does."""
    if name.startswith("sem_seg_head.") and not name.startswith((f"{PIXEL}.", f"{PREDICTOR}.")):
        name = name.replace("sem_seg_head.", f"{PIXEL}.", 1)
    return name.replace(".static_query.", ".query_feat.")
