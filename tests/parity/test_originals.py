"""From a checkpoint of the authors' code to a folder that transformers loads, with the same logits.

The authors' file is made from a network of transformers by the rules here, which go straight from one's names to the
other's and share nothing with segcli's tables; their outcome is held against `tests.weights.original_names`.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from segcli.weights.checkpoint import load_model, save_model
from segcli.weights.originals.convert import convert
from tests.parity.hf import STAGES, batch, relative, transformers, twins
from tests.weights import original_names as names

SWIN, RESNET = names.Swin(32, (1, 2, 1, 1), (1, 2, 4, 8), 5), names.ResNet((1, 2, 1, 1), 16)
CLASSES, QUERIES, DIM = 133, 6, 64

RULES = """
model.pixel_level_module.encoder.                        -> backbone.
model.pixel_level_module.decoder.                        -> sem_seg_head.pixel_decoder.
model.transformer_module.                                -> sem_seg_head.predictor.
^class_predictor                                         -> sem_seg_head.predictor.class_embed
^(decoder.mask_predictor.)?mask_embedder.(.).0           -> sem_seg_head.predictor.mask_embed.layers.\\2
predictor.decoder.mask_predictor.mask_embedder.(.).0     -> predictor.mask_embed.layers.\\1
backbone.(model.|swin.)?embeddings.patch_embeddings.projection -> backbone.patch_embed.proj
backbone.(model.|swin.)?embeddings.norm                  -> backbone.patch_embed.norm
backbone.(model.|swin.)?encoder.layers.                  -> backbone.layers.
hidden_states_norms.stage1                               -> norm0
hidden_states_norms.stage2                               -> norm1
hidden_states_norms.stage3                               -> norm2
hidden_states_norms.stage4                               -> norm3
hidden_states_norms.                                     -> norm
layernorm_before                                         -> norm1
layernorm_after                                          -> norm2
attention.self.relative_position                         -> attn.relative_position
attention.self.                                          -> attn.
attention.output.dense                                   -> attn.proj
intermediate.dense                                       -> mlp.fc1
(blocks.\\d.)output.dense                                 -> \\1mlp.fc2
backbone.embedder.embedder.convolution                   -> backbone.stem.conv1
backbone.embedder.embedder.normalization                 -> backbone.stem.conv1.norm
backbone.encoder.stages.0                                -> backbone.res2
backbone.encoder.stages.1                                -> backbone.res3
backbone.encoder.stages.2                                -> backbone.res4
backbone.encoder.stages.3                                -> backbone.res5
(res\\d.)layers.                                          -> \\1
shortcut.convolution                                     -> shortcut
shortcut.normalization                                   -> shortcut.norm
layer.0.convolution                                      -> conv1
layer.1.convolution                                      -> conv2
layer.2.convolution                                      -> conv3
layer.0.normalization                                    -> conv1.norm
layer.1.normalization                                    -> conv2.norm
layer.2.normalization                                    -> conv3.norm
pixel_decoder.(level_embed|encoder)                      -> pixel_decoder.transformer.\\1
pixel_decoder.input_projections                          -> pixel_decoder.input_proj
pixel_decoder.mask_projection                            -> pixel_decoder.mask_features
pixel_decoder.(adapter|layer)_1.0                        -> pixel_decoder.\\1_1
pixel_decoder.(adapter|layer)_1.1                        -> pixel_decoder.\\1_1.norm
(pixel_decoder.transformer.*).self_attn_layer_norm       -> \\1.norm1
(pixel_decoder.transformer.*).final_layer_norm           -> \\1.norm2
fpn.stem.0                                               -> layer_4
fpn.stem.1                                               -> layer_4.norm
fpn.layers.0.proj                                        -> adapter_3
fpn.layers.1.proj                                        -> adapter_2
fpn.layers.2.proj                                        -> adapter_1
fpn.layers.0.block                                       -> layer_3
fpn.layers.1.block                                       -> layer_2
fpn.layers.2.block                                       -> layer_1
((adapter|layer)_[123]).0                                -> \\1
((adapter|layer)_[123]).1                                -> \\1.norm
predictor.queries_features                               -> predictor.query_feat
predictor.queries_embedder                               -> predictor.query_embed
predictor.input_projection                               -> predictor.input_proj
"""
MASK2FORMER_RULES = """
predictor.decoder.layernorm                              -> predictor.decoder_norm
decoder.layers.(.).cross_attn_layer_norm                 -> transformer_cross_attention_layers.\\1.norm
decoder.layers.(.).cross_attn                            -> transformer_cross_attention_layers.\\1.multihead_attn
decoder.layers.(.).self_attn_layer_norm                  -> transformer_self_attention_layers.\\1.norm
decoder.layers.(.).self_attn                             -> transformer_self_attention_layers.\\1.self_attn
predictor.decoder.layers.(.).final_layer_norm            -> predictor.transformer_ffn_layers.\\1.norm
predictor.decoder.layers.(.).fc(.)                       -> predictor.transformer_ffn_layers.\\1.linear\\2
(pixel_decoder.*).fc(.)                                  -> \\1.linear\\2
"""
MASKFORMER_RULES = """
predictor.decoder.layernorm                              -> predictor.transformer.decoder.norm
predictor.decoder.layers                                 -> predictor.transformer.decoder.layers
self_attn_layer_norm                                     -> norm1
encoder_attn_layer_norm                                  -> norm2
encoder_attn                                             -> multihead_attn
final_layer_norm                                         -> norm3
(decoder.*).fc(.)                                        -> \\1.linear\\2
"""


def authors(name: str, rules: str) -> str:
    for rule in (RULES + rules).strip().splitlines():
        if not rule:
            continue
        theirs, ours = (part.strip() for part in rule.split("->"))
        name = re.sub(theirs.replace(".", r"\.").replace(r"(\.)", "(.)").replace(r"\.*", ".*"), ours, name)
    return name


def packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value in one, as the authors' attention has them."""
    found = dict(state)
    for name in state:
        for parts, whole in (
            (("query", "key", "value"), "qkv.{}"),
            (("q_proj", "k_proj", "v_proj"), "in_proj_{}"),
        ):
            first, _, kind = name.rpartition(".")
            if first.endswith(f".{parts[0]}"):
                prefix = first.removesuffix(parts[0])
                pieces = [found.pop(f"{prefix}{part}.{kind}") for part in parts]
                found[prefix + whole.format(kind)] = torch.cat(pieces)
    return found


def write(theirs: Any, expected: names.Shapes, rules: str, folder: Path) -> Path:
    """The authors' pickle of a network of transformers."""
    theirs.save_pretrained(folder / "theirs")
    state = packed({authors(n, rules): t for n, t in load_file(folder / "theirs" / "model.safetensors").items()})
    computed = {name for name in expected if name.endswith(("relative_position_index", "empty_weight"))}
    state = {n: t for n, t in state.items() if "num_batches" not in n and n != "criterion.empty_weight"}
    unused = {n for n in state if n.endswith("relative_position_index") or ".layernorm." in n}
    state = {n: t for n, t in state.items() if n not in unused}
    assert {n: tuple(t.shape) for n, t in state.items()} == {n: s for n, s in expected.items() if n not in computed}
    path = folder / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": {n: t.numpy() for n, t in state.items()}, "__author__": "somebody"}))
    return path


def backbone(kind: names.Swin | names.ResNet) -> Any:
    if isinstance(kind, names.Swin):
        return transformers.SwinConfig(
            embed_dim=kind.dim, depths=kind.depths, num_heads=kind.heads, window_size=kind.window, out_features=STAGES
        )
    return transformers.ResNetConfig(
        depths=list(kind.depths), hidden_sizes=kind.widths, embedding_size=kind.width, out_features=STAGES
    )


def check(theirs: Any, path: Path) -> None:
    """segcli and transformers, from the folder that segcli wrote, answer as the network it began with."""
    folder = save_model(convert(path).loaded, path.parent / "ours")
    again, info = type(theirs).from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    assert {key: list(value) for key, value in info.items() if value} == {}
    images = torch.randn(1, 3, 64, 97)
    with torch.inference_mode():
        expected, found = theirs(pixel_values=images), again.eval()(pixel_values=images)
        own = load_model(folder, device="cpu", dtype="fp32").model(batch(images))[-1]
    assert torch.equal(found.class_queries_logits, expected.class_queries_logits)
    assert torch.equal(found.masks_queries_logits, expected.masks_queries_logits)
    assert relative(own.classes, expected.class_queries_logits) < 1e-4
    assert relative(own.masks.dense(), expected.masks_queries_logits) < 1e-4


@pytest.mark.parametrize("kind", [SWIN, RESNET])
def test_mask2former(kind: names.Swin | names.ResNet, tmp_path: Path) -> None:
    sizes = {"hidden_dim": DIM, "feature_size": DIM, "mask_feature_size": DIM, "decoder_layers": 4}
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone(kind), num_labels=CLASSES, num_queries=QUERIES, **sizes
    )
    theirs, _ = twins(transformers.Mask2FormerForUniversalSegmentation(config))
    expected = names.mask2former(kind, CLASSES, QUERIES, DIM, layers=3)
    check(theirs, write(theirs, expected, MASK2FORMER_RULES, tmp_path))


@pytest.mark.parametrize("kind", [SWIN, RESNET])
def test_maskformer(kind: names.Swin | names.ResNet, tmp_path: Path) -> None:
    config = transformers.MaskFormerConfig(
        backbone_config=backbone(kind),
        decoder_config=transformers.DetrConfig(d_model=DIM, num_queries=QUERIES),
        fpn_feature_size=DIM,
        mask_feature_size=DIM,
        num_labels=CLASSES,
    )
    theirs, _ = twins(transformers.MaskFormerForInstanceSegmentation(config))
    expected = names.maskformer(kind, CLASSES, QUERIES, DIM)
    check(theirs, write(theirs, expected, MASKFORMER_RULES, tmp_path))
