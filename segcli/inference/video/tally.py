"""What the end of a clip tells of all its frames, those of an interrupted run included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tally:
    """Frames, and of each class the objects and the frames that show it; objects are counted, not kept."""

    frames: int = 0
    failed: int = 0
    earlier: int = 0  # of the frames: those of the run that was interrupted
    objects: dict[str, set[int]] = field(default_factory=dict)  # class name -> ids
    seen: dict[str, int] = field(default_factory=dict)  # class name -> frames that show it

    def add(self, segments: Sequence[Mapping[str, Any]] | None) -> None:
        """Count a frame with such records as clip.jsonl has; None: it failed."""
        self.frames += 1
        self.failed += segments is None
        names: dict[str, set[int]] = {}
        for segment in segments or ():
            names.setdefault(segment["category_name"], set()).add(segment["id"])
        for name, ids in names.items():
            self.objects.setdefault(name, set()).update(ids)
            self.seen[name] = self.seen.get(name, 0) + 1

    def state(self) -> dict[str, Any]:
        """As JSON."""
        objects = {name: sorted(ids) for name, ids in self.objects.items()}
        return {"frames": self.frames, "failed": self.failed, "objects": objects, "seen": dict(self.seen)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave. Raises LookupError, TypeError or ValueError for anything else."""
        self.frames = self.earlier = int(state["frames"])
        self.failed = int(state["failed"])
        self.objects = {str(name): {int(id_) for id_ in ids} for name, ids in dict(state["objects"]).items()}
        self.seen = {name: int(state["seen"][name]) for name in self.objects}
