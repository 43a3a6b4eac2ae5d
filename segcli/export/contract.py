"""What an exported folder promises: names of the graph's inputs and outputs, and the facts in its config.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Any

from segcli.errors import CheckpointError

TABLE = "segcli_export"
VERSION = 1
WHOLE = 32  # both sides of an input are multiples of this: the coarsest map of every backbone has this stride

IMAGES = "images"  # [B, 3, H, W] float32, normalised, zero-padded right and bottom
PADDING = "padding"  # [B, H, W] bool, True where there is no photo; only networks that look at it have this input

CLASSES = "class_logits"  # [B, Q, K + 1], the last is "no object"
EMBEDDINGS = "mask_embeddings"  # [B, Q, C], the left factor of every mask
FEATURES = "mask_features"  # [B, C, h, w], the right factor
MASKS = "mask_logits"  # [B, Q, h, w], instead of the two factors
BOXES = "boxes"  # [B, Q, 4] cxcywh, shares of the photo

ABOUT = {
    IMAGES: "float32 [batch, 3, height, width]: RGB, minus mean, divided by std, zeros right and below the photo",
    PADDING: "bool [batch, height, width]: true where there is no photo",
    CLASSES: 'float32 [batch, queries, classes + 1]: logits, the last class is "no object"',
    EMBEDDINGS: "float32 [batch, queries, channels]: mask logits are mask_embeddings @ mask_features",
    FEATURES: "float32 [batch, channels, height / 4, width / 4]",
    MASKS: "float32 [batch, queries, height / 4, width / 4]: mask logits",
    BOXES: "float32 [batch, queries, 4]: centre x, centre y, width, height as shares of the photo",
}


@dataclass(frozen=True)
class ExportFacts:
    """The `segcli_export` table of an exported folder's config.json."""

    runtime: str  # a name in `runtimes.RUNTIMES`
    file: str  # the graph, in the folder
    dtype: str  # fp32, fp16 or int8
    size: tuple[int, int] | None = None  # (height, width) the graph takes; None: any multiples of 32
    batch: int | None = None  # images at a time; None: any number
    made_with: dict[str, str] = field(default_factory=dict)  # versions of segcli, torch and the exporter, and the opset

    def to_table(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"version": VERSION, **asdict(self), "size": list(self.size) if self.size else None}

    @classmethod
    def from_table(cls, table: Any, where: str) -> ExportFacts:
        """Raises CheckpointError for a table of another version, and for one that is damaged."""
        again = "export the model again"
        if not isinstance(table, dict) or "version" not in table:
            raise CheckpointError(f"{where}: the {TABLE!r} table is damaged; {again}")
        if table["version"] != VERSION:
            raise CheckpointError(
                f"{where}: exported in format {str(table['version'])[:20]}, this segcli reads {VERSION}; {again} with "
                "this segcli, or install the one that made it"
            )
        try:
            size, batch = table["size"], table["batch"]
            facts = cls(
                _text(table["runtime"]),
                _text(table["file"]),
                _text(table["dtype"]),
                None if size is None else (_count(size[0]), _count(size[1])),
                None if batch is None else _count(batch),
                {_text(key): _text(value) for key, value in table.get("made_with", {}).items()},
            )
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise CheckpointError(f"{where}: the {TABLE!r} table is damaged; {again}") from error
        if facts.file != PurePath(facts.file).name or "\\" in facts.file:
            raise CheckpointError(f"{where}: {facts.file[:60]!r} is not the name of a file in this folder; {again}")
        return facts


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 < value < 1 << 16:
        raise ValueError
    return value
