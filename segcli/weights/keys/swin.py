"""Hugging Face names of a Swin backbone, as the Hub stores them."""

ENCODER = "model.pixel_level_module.encoder"
BLOCK = f"{ENCODER}.encoder.layers.*.blocks.*"
OURS = "backbone.stages.*.blocks.*"

RENAMED = {
    f"{ENCODER}.embeddings.patch_embeddings.projection": "backbone.patch_embed",
    f"{ENCODER}.embeddings.norm": "backbone.patch_norm",
    f"{BLOCK}.layernorm_before": f"{OURS}.norm1",
    f"{BLOCK}.attention.self.relative_position_bias_table": f"{OURS}.attention.bias_table",
    f"{BLOCK}.attention.output.dense": f"{OURS}.attention.proj",
    f"{BLOCK}.layernorm_after": f"{OURS}.norm2",
    f"{BLOCK}.intermediate.dense": f"{OURS}.fc1",
    f"{BLOCK}.output.dense": f"{OURS}.fc2",
    f"{ENCODER}.encoder.layers.*.downsample": "backbone.stages.*.downsample",
    f"{ENCODER}.hidden_states_norms.stage1": "backbone.norms.0",
    f"{ENCODER}.hidden_states_norms.stage2": "backbone.norms.1",
    f"{ENCODER}.hidden_states_norms.stage3": "backbone.norms.2",
    f"{ENCODER}.hidden_states_norms.stage4": "backbone.norms.3",
}

JOINED = {
    tuple(f"{BLOCK}.attention.self.{part}.{kind}" for part in ("query", "key", "value")): f"{OURS}.attention.qkv.{kind}"
    for kind in ("weight", "bias")
}

# transformers ≥ 5 keeps these names in memory; files have the names above.
ALIASES = {
    f"{ENCODER}.swin.": f"{ENCODER}.",
    ".attention.q_proj.": ".attention.self.query.",
    ".attention.k_proj.": ".attention.self.key.",
    ".attention.v_proj.": ".attention.self.value.",
    ".attention.o_proj.": ".attention.output.dense.",
    ".attention.relative_position_bias.": ".attention.self.",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
}
