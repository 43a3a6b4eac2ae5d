"""Plain Vision Transformers: DINOv2 (arXiv 2304.07193), with registers or without, and DINOv3 (arXiv 2508.10104)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from segcli.config.backbones import PRETRAINED, BackboneConfig, Pretrained
from segcli.config.checks import check_facts, check_heads, numbers, settings
from segcli.errors import CheckpointError, shown

DINOV2_SIDE, DINOV2_PATCH = 518, 14  # what DINOv2's files were trained at
PATCH = 16

_SHARED = {"hidden_act": "gelu", "num_channels": 3, "attention_dropout": 0.0}
_DINOV2 = _SHARED | {"qkv_bias": True}
_DINOV3 = _SHARED | {
    "query_bias": True, "key_bias": False, "value_bias": True, "proj_bias": True, "mlp_bias": True,
    "use_gated_mlp": False, "pos_embed_shift": None, "pos_embed_jitter": None,
}  # fmt: skip
_NUMBERS = {
    "dim": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "patch_size": "patch_size",
}

# What transformers takes where a file is silent.
_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": PATCH,
}


@dataclass(frozen=True)
class ViTConfig(BackboneConfig):
    """A plain ViT over square patches, with a class token and registers."""

    dim: int
    depth: int
    num_heads: int
    mlp_dim: int
    patch_size: int = PATCH
    image_size: int = 640  # side of the square that a learned table of positions is for
    registers: int = 4
    positions: Literal["table", "rotary"] = "table"  # DINOv2, DINOv3
    gated: bool = False  # SwiGLU in place of GELU (DINOv2's giant)
    norm_eps: float = 1e-6
    layer_scale: float = 1e-5  # initial value only
    rope_theta: float = 100.0
    rope_rescale: float | None = 2.0  # in training, coordinates are scaled by up to this factor

    module: ClassVar[str] = "vit"
    described: ClassVar[str] = "dinov2, dinov3 (with eomt)"
    pyramid: ClassVar[bool] = False

    @property
    def grid(self) -> int:
        """Patches a side of the square that it is made for."""
        return self.image_size // self.patch_size

    @classmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self | None:
        """Of a `backbone_config` or of the `config.json` of a DINO; None if it is of another kind."""
        kind = raw.get("model_type")
        if kind in ("dinov2", "dinov2_with_registers"):
            check_facts(raw, _DINOV2, where)
            registers = 0 if kind == "dinov2" else raw.get("num_register_tokens", 4)
            return cls.table(raw | {"num_register_tokens": registers}, where, DINOV2_PATCH, DINOV2_SIDE)
        if kind == "dinov3_vit":
            check_facts(raw, _DINOV3, where)
            return cls.rotary(raw, where)
        return None

    @classmethod
    def table(cls, raw: dict[str, Any], where: str, patch: int = PATCH, side: int = 640) -> Self:
        """Of settings in DINOv2's names, which say the width of the MLP as a ratio. patch, side: where not said."""
        raw = _LARGE | {"patch_size": patch, "image_size": side} | raw
        values, entries = numbers(raw, _NUMBERS, where), settings(raw, where)
        gated = entries.flag("use_swiglu_ffn", False)
        wide = int(values["dim"] * entries.number("mlp_ratio", 4, least=0.1, most=64))
        return cls._checked(
            where,
            mlp_dim=(int(wide * 2 / 3) + 7) // 8 * 8 if gated else wide,
            gated=gated,
            image_size=_side(raw["image_size"], values["patch_size"], where),
            registers=_registers(raw, where),
            norm_eps=entries.number("layer_norm_eps", 1e-6, least=0, most=1),
            layer_scale=entries.number("layerscale_value", 1e-5),
            **values,
        )

    @classmethod
    def rotary(cls, raw: dict[str, Any], where: str) -> Self:
        """Of settings in DINOv3's names."""
        raw = _LARGE | {"image_size": 640, "intermediate_size": 4096} | raw
        values = numbers(raw, _NUMBERS | {"mlp_dim": "intermediate_size"}, where)
        entries = settings(raw, where)
        theta = entries.number("rope_theta", 100.0, least=1, most=1e9)  # of older files
        rope = settings(raw.get("rope_parameters") or {}, f"{where}: rope_parameters")
        check_facts(rope.raw, {"rope_type": "default"}, where)
        has_rescale = raw.get("pos_embed_rescale", 2.0) is not None
        return cls._checked(
            where,
            positions="rotary",
            image_size=_side(raw["image_size"], values["patch_size"], where),
            registers=_registers(raw, where),
            norm_eps=entries.number("layer_norm_eps", 1e-5, least=0, most=1),
            layer_scale=entries.number("layerscale_value", 1.0),
            rope_theta=rope.number("rope_theta", theta, least=1, most=1e9),
            rope_rescale=entries.number("pos_embed_rescale", 2.0, least=1, most=100) if has_rescale else None,
            **values,
        )

    @classmethod
    def _checked(cls, where: str, **values: Any) -> Self:
        config = cls(**values)
        check_heads(config.dim, config.num_heads, where)
        if config.positions == "rotary" and config.dim // config.num_heads % 4:
            raise CheckpointError(
                f"{where}: attention heads of {config.dim // config.num_heads} numbers cannot be rotated"
            )
        return config

    def raw(self) -> dict[str, Any]:
        """Its settings in the names of its family; `table` and `rotary` read them back."""
        shared: dict[str, Any] = {theirs: getattr(self, ours) for ours, theirs in _NUMBERS.items()}
        shared |= {
            "image_size": self.image_size,
            "num_register_tokens": self.registers,
            "layer_norm_eps": self.norm_eps,
            "layerscale_value": self.layer_scale,
            "drop_path_rate": 0.0,
        } | _SHARED
        if self.positions == "table":
            ratio = 4 if self.gated else self.mlp_dim // self.dim
            return shared | {"mlp_ratio": ratio, "use_swiglu_ffn": self.gated}
        rope = {"rope_theta": self.rope_theta, "rope_type": "default"}
        own = {"intermediate_size": self.mlp_dim, "rope_parameters": rope, "pos_embed_rescale": self.rope_rescale}
        return shared | _DINOV3 | own

    @property
    def name(self) -> str:
        """ "dinov2-small", "dinov3-vits16", …; of one that was not published, its width and depth."""
        size = {(384, 12): 0, (768, 12): 1, (1024, 24): 2, (1536, 40): 3}.get((self.dim, self.depth))
        if size is None or (self.positions == "rotary" and size == 3):
            return f"vit of width {self.dim} and depth {self.depth}"
        if self.positions == "rotary":
            return f"dinov3-vit{'sbl'[size]}16"
        return f"dinov2-{('small', 'base', 'large', 'giant')[size]}"


_MOST_SIDE, _MOST_REGISTERS = 16384, 64


def _side(value: Any, patch: int, where: str) -> int:
    sides = list(value) if isinstance(value, list | tuple) else [value]
    side = sides[0] if sides and all(other == sides[0] for other in sides) else None
    if type(side) is not int or not patch <= side <= _MOST_SIDE or side % patch:
        raise CheckpointError(
            f"{where}: image_size is {shown(value)}; expected one side, a multiple of patch_size {patch}"
        )
    return side


def _registers(raw: dict[str, Any], where: str) -> int:
    return settings(raw, where).whole("num_register_tokens", 4, most=_MOST_REGISTERS)


def as_vit(config: BackboneConfig) -> ViTConfig:
    """The same; raises TypeError for another kind of backbone."""
    if not isinstance(config, ViTConfig):
        raise TypeError(f"{config.name} is not a plain ViT")
    return config


VIT_SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16), "giant": (1536, 40, 24)}
for _name, (_dim, _depth, _heads) in VIT_SIZES.items():
    _giant = _name == "giant"
    _hidden = 4096 if _giant else 4 * _dim
    PRETRAINED[f"dinov2-{_name}"] = Pretrained(
        ViTConfig(_dim, _depth, _heads, _hidden, DINOV2_PATCH, DINOV2_SIDE, gated=_giant),
        "dino",
        "Apache-2.0",
        f"facebook/dinov2-with-registers-{_name}",
        data="LVD-142M",
    )
for _name in ("small", "base", "large"):
    _dim, _depth, _heads = VIT_SIZES[_name]
    PRETRAINED[f"dinov3-vit{_name[0]}16"] = Pretrained(
        ViTConfig(_dim, _depth, _heads, 4 * _dim, image_size=224, positions="rotary", norm_eps=1e-5, layer_scale=1.0),
        "dino",
        "DINOv3 License",
        f"facebook/dinov3-vit{_name[0]}16-pretrain-lvd1689m",
        data="LVD-1689M",
    )
