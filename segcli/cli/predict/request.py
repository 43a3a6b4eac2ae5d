"""What `segcli predict` was asked for, of photos and of clips alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcli.cli.loading import load
from segcli.console import Console
from segcli.types import Device, Precision, Task

if TYPE_CHECKING:
    from segcli.files.remote_folder import RemoteFolder
    from segcli.inference.predict import PredictSettings
    from segcli.render import Style
    from segcli.render.colours import ColorBy
    from segcli.weights.checkpoint import LoadedModel


@dataclass(frozen=True)
class PredictRequest:
    """The options, as they were given; None is the checkpoint's own choice, or segcli's."""

    task: Task | None
    model: str | None
    rules: dict[str, Any]  # thresholds, sizes and classes by their names in `segcli.inference.predict.resolve`
    out: Path
    kinds: tuple[str, ...]  # of --save
    overwrite: bool
    skip_existing: bool
    device: Device
    dtype: Precision
    threads: int | None
    batch_size: int
    max_pixels: int | None
    color_by: ColorBy | None
    alpha: float | None  # opacity of the tint, 0 to 1
    labels: bool
    ids: bool
    outlines: bool
    boxes: bool
    as_json: bool
    profile: bool
    remote: RemoteFolder | None = None  # where what is written to `out` goes from there

    def load(self, say: Console) -> LoadedModel:
        """The model; raises what `segcli.cli.loading.load` raises."""
        return load(self.model, self.task, self.device, self.dtype, self.threads, say)

    def check(self) -> None:
        """Raise for what cannot be right about the options, as far as that can be told without a download: said before
        results that are there already."""
        from segcli.weights.device import choose_device
        from segcli.weights.hub import refuse_unknown
        from segcli.weights.manifest import lookup

        choose_device(self.device)
        if self.model is None:
            return
        entry = lookup(self.model)
        if Path(self.model).is_dir() or (entry and entry.bundled):
            self.resolve(self.load(Console(quiet=True)))
        else:
            refuse_unknown(self.model)

    def resolve(self, loaded: LoadedModel, **how: Any) -> PredictSettings:
        """How this model is to predict; raises what `segcli.inference.predict.resolve` raises."""
        from segcli.inference.predict import resolve

        return resolve(loaded.spec, self.task, **how, **self.rules)

    @property
    def style(self) -> Style:
        """How overlays look."""
        from segcli.render import Style

        return Style(self.color_by, self.alpha, self.labels, self.ids, self.outlines, self.boxes)


def made_with(loaded: LoadedModel, settings: PredictSettings) -> dict[str, Any]:
    """What every result records of the run, and a run that is continued must share."""
    spec = settings.spec
    made: dict[str, Any] = {"model": loaded.name, "input": spec.size.to_table(), "rule": asdict(spec.rule)}
    if settings.classes is not None:
        made["only"] = [spec.labels[place].name for place in sorted(settings.classes)]
    if settings.least_seen:
        made["overlap_threshold"] = settings.least_seen
    return made
