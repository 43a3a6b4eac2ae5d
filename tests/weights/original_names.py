"""Every tensor of an authors' checkpoint, by the modules their code is made of: facebookresearch/Mask2Former and
MaskFormer, with detectron2's ResNet, and detr. Written from their constructors alone; nothing here comes from segcli's
tables.
"""

from __future__ import annotations

from dataclasses import dataclass

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Swin:
    """Their `D2SwinTransformer`."""

    dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7

    @property
    def widths(self) -> list[int]:
        return [self.dim * 2**i for i in range(4)]

    def tensors(self) -> Shapes:
        found = linear("patch_embed.proj", self.dim, 3, 4, 4) | norm("patch_embed.norm", self.dim)
        for i, (dim, depth, heads) in enumerate(zip(self.widths, self.depths, self.heads, strict=True)):
            for j in range(depth):
                block = f"layers.{i}.blocks.{j}"
                found |= norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", dim)
                found |= linear(f"{block}.attn.qkv", 3 * dim, dim) | linear(f"{block}.attn.proj", dim, dim)
                found[f"{block}.attn.relative_position_bias_table"] = ((2 * self.window - 1) ** 2, heads)
                found[f"{block}.attn.relative_position_index"] = (self.window**2, self.window**2)
                found |= linear(f"{block}.mlp.fc1", 4 * dim, dim) | linear(f"{block}.mlp.fc2", dim, 4 * dim)
            if i < 3:
                found |= norm(f"layers.{i}.downsample.norm", 4 * dim)
                found[f"layers.{i}.downsample.reduction.weight"] = (2 * dim, 4 * dim)
            found |= norm(f"norm{i}", dim)
        return under("backbone", found)


@dataclass(frozen=True)
class ResNet:
    """detectron2's `build_resnet_backbone` with frozen norms, which have no counter."""

    depths: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64

    @property
    def widths(self) -> list[int]:
        return [4 * self.width * 2**i for i in range(4)]

    def tensors(self) -> Shapes:
        found = frozen("stem.conv1", self.width, 3, 7)
        before = self.width
        for stage, (depth, out) in enumerate(zip(self.depths, self.widths, strict=True)):
            for j in range(depth):
                block, inner = f"res{stage + 2}.{j}", out // 4
                if j == 0:
                    found |= frozen(f"{block}.shortcut", out, before, 1)
                found |= frozen(f"{block}.conv1", inner, before, 1) | frozen(f"{block}.conv2", inner, inner, 3)
                found |= frozen(f"{block}.conv3", out, inner, 1)
                before = out
        return under("backbone", found)


def mask2former(backbone: Swin | ResNet, classes: int, queries: int = 100, dim: int = 256, layers: int = 9) -> Shapes:
    """MSDeformAttnPixelDecoder and MultiScaleMaskedTransformerDecoder."""
    pixel: Shapes = {"transformer.level_embed": (3, dim)}
    for i, width in enumerate(reversed(backbone.widths[1:])):
        pixel |= linear(f"input_proj.{i}.0", dim, width, 1, 1) | norm(f"input_proj.{i}.1", dim)
    for i in range(6):
        layer = f"transformer.encoder.layers.{i}"
        pixel |= linear(f"{layer}.self_attn.sampling_offsets", 8 * 3 * 4 * 2, dim)
        pixel |= linear(f"{layer}.self_attn.attention_weights", 8 * 3 * 4, dim)
        pixel |= linear(f"{layer}.self_attn.value_proj", dim, dim) | linear(f"{layer}.self_attn.output_proj", dim, dim)
        pixel |= norm(f"{layer}.norm1", dim) | norm(f"{layer}.norm2", dim)
        pixel |= linear(f"{layer}.linear1", 1024, dim) | linear(f"{layer}.linear2", dim, 1024)
    pixel |= normed("adapter_1", dim, backbone.widths[0], 1) | normed("layer_1", dim, dim, 3)
    pixel |= linear("mask_features", dim, dim, 1, 1)
    query: Shapes = {f"{name}.weight": (queries, dim) for name in ("query_feat", "query_embed")}
    query["level_embed.weight"] = (3, dim)
    for i in range(layers):
        own, cross = f"transformer_self_attention_layers.{i}", f"transformer_cross_attention_layers.{i}"
        query |= attention(f"{own}.self_attn", dim) | norm(f"{own}.norm", dim)
        query |= attention(f"{cross}.multihead_attn", dim) | norm(f"{cross}.norm", dim)
        feed = f"transformer_ffn_layers.{i}"
        query |= linear(f"{feed}.linear1", 2048, dim) | linear(f"{feed}.linear2", dim, 2048) | norm(f"{feed}.norm", dim)
    query |= norm("decoder_norm", dim) | heads(classes, dim)
    return whole(backbone, pixel, query, classes)


def maskformer(backbone: Swin | ResNet, classes: int, queries: int = 100, dim: int = 256, encoder: int = 0) -> Shapes:
    """BasePixelDecoder, or TransformerEncoderPixelDecoder with so many layers, and TransformerPredictor."""
    pixel: Shapes = {}
    for i, width in enumerate(backbone.widths[:3], start=1):
        pixel |= normed(f"adapter_{i}", dim, width, 1) | normed(f"layer_{i}", dim, dim, 3)
    pixel |= normed("layer_4", dim, dim if encoder else backbone.widths[3], 3)
    pixel |= linear("mask_features", dim, dim, 3, 3)
    query: Shapes = {"query_embed.weight": (queries, dim)}
    into = pixel if encoder else query  # of whichever is the first Transformer
    into |= linear("input_proj", dim, backbone.widths[3], 1, 1)
    for i in range(encoder):
        layer = f"transformer.encoder.layers.{i}"
        pixel |= attention(f"{layer}.self_attn", dim) | norm(f"{layer}.norm1", dim) | norm(f"{layer}.norm2", dim)
        pixel |= linear(f"{layer}.linear1", 2048, dim) | linear(f"{layer}.linear2", dim, 2048)
    for i in range(6):
        layer = f"transformer.decoder.layers.{i}"
        query |= attention(f"{layer}.self_attn", dim) | attention(f"{layer}.multihead_attn", dim)
        query |= linear(f"{layer}.linear1", 2048, dim) | linear(f"{layer}.linear2", dim, 2048)
        query |= norm(f"{layer}.norm1", dim) | norm(f"{layer}.norm2", dim) | norm(f"{layer}.norm3", dim)
    query |= norm("transformer.decoder.norm", dim) | heads(classes, dim)
    return whole(backbone, pixel, query, classes)


def detr(outputs: int, masks: bool, dim: int = 32, width: int = 8) -> Shapes:
    """DETR, or DETRsegm with masks; torchvision's ResNet of one block a stage, one layer each in both Transformers."""
    before, body = width, {"conv1.weight": (width, 3, 7, 7)} | statistics("bn1", width)
    for stage in range(4):
        out, block = 4 * width * 2**stage, f"layer{stage + 1}.0"
        inner = out // 4
        sizes = ((inner, before, 1), (inner, inner, 3), (out, inner, 1))
        for i, (to, into, side) in enumerate(sizes, start=1):
            body |= {f"{block}.conv{i}.weight": (to, into, side, side)} | statistics(f"{block}.bn{i}", to)
        body |= {f"{block}.downsample.0.weight": (out, before, 1, 1)} | statistics(f"{block}.downsample.1", out)
        before = out
    found = under("backbone.0.body", body) | linear("input_proj", dim, before, 1, 1)
    for part, norms in (("encoder", 2), ("decoder", 3)):
        layer = f"transformer.{part}.layers.0"
        found |= attention(f"{layer}.self_attn", dim)
        found |= linear(f"{layer}.linear1", 2 * dim, dim) | linear(f"{layer}.linear2", dim, 2 * dim)
        for i in range(norms):
            found |= norm(f"{layer}.norm{i + 1}", dim)
    found |= attention("transformer.decoder.layers.0.multihead_attn", dim) | norm("transformer.decoder.norm", dim)
    found |= {"query_embed.weight": (5, dim)} | linear("class_embed", outputs + 1, dim)
    for i, size in enumerate((dim, dim, 4)):
        found |= linear(f"bbox_embed.layers.{i}", size, dim)
    if not masks:
        return found
    head = linear("bbox_attention.q_linear", dim, dim) | linear("bbox_attention.k_linear", dim, dim)
    steps = [dim + 8, dim // 2, dim // 4, dim // 8, dim // 16]
    for i, (into, out) in enumerate(zip([dim + 8, *steps], [dim + 8, *steps[1:]], strict=False), start=1):
        head |= linear(f"mask_head.lay{i}", out, into, 3, 3) | norm(f"mask_head.gn{i}", out)
    for i, (into, out) in enumerate(zip((16 * width, 8 * width, 4 * width), steps[1:4], strict=True), start=1):
        head |= linear(f"mask_head.adapter{i}", out, into, 1, 1)
    return under("detr", found) | head | linear("mask_head.out_lay", 1, steps[4], 3, 3)


def statistics(name: str, dim: int) -> Shapes:
    """A norm whose four tensors are constants."""
    return norm(name, dim) | {f"{name}.running_mean": (dim,), f"{name}.running_var": (dim,)}


def old(name: str) -> str:
    """A name as their first version had it."""
    name = name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head.")
    return name.replace("predictor.query_feat", "predictor.static_query")


def whole(backbone: Swin | ResNet, pixel: Shapes, query: Shapes, classes: int) -> Shapes:
    head = under("pixel_decoder", pixel) | under("predictor", query)
    return backbone.tensors() | under("sem_seg_head", head) | {"criterion.empty_weight": (classes + 1,)}


def heads(classes: int, dim: int) -> Shapes:
    found = linear("class_embed", classes + 1, dim)
    for i in range(3):
        found |= linear(f"mask_embed.layers.{i}", dim, dim)
    return found


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def linear(name: str, out: int, *rest: int) -> Shapes:
    return {f"{name}.weight": (out, *rest), f"{name}.bias": (out,)}


def norm(name: str, dim: int) -> Shapes:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def normed(name: str, out: int, into: int, side: int) -> Shapes:
    """detectron2's convolution with the norm it holds, and so no bias."""
    return {f"{name}.weight": (out, into, side, side)} | norm(f"{name}.norm", out)


def frozen(name: str, out: int, into: int, side: int) -> Shapes:
    return {f"{name}.weight": (out, into, side, side)} | statistics(f"{name}.norm", out)


def attention(name: str, dim: int) -> Shapes:
    """PyTorch's MultiheadAttention."""
    packed: Shapes = {f"{name}.in_proj_weight": (3 * dim, dim), f"{name}.in_proj_bias": (3 * dim,)}
    return packed | linear(f"{name}.out_proj", dim, dim)
