"""`segcli predict clip.mp4`: clips in, clips with ids out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from segcli import console
from segcli.cli.loading import introduce, load
from segcli.console import Console
from segcli.errors import UsageError
from segcli.types import Task

if TYPE_CHECKING:
    from segcli.inference.clips import ClipFiles
    from segcli.inference.predict import Settings
    from segcli.weights.checkpoint import LoadedModel

_CLIP_ENDS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif", ".webp")


def clips_among(sources: Sequence[str], fps: float | None) -> list[str]:
    """The sources if they are clips, none if they are pictures. Raises UsageError if they are both."""
    if fps is None and not any("%" in name or ":" in name or name.lower().endswith(_CLIP_ENDS) for name in sources):
        return []  # without importing what reads clips
    from segcli.inference.video import is_clip

    clips = [name for name in sources if is_clip(name) or (fps is not None and Path(name).is_dir())]
    if clips and len(clips) < len(sources):
        other = next(name for name in sources if name not in clips)
        raise UsageError(f"{clips[0]} is a clip and {other} is not; predict them in separate runs")
    return clips


def predict_clips(
    clips: Sequence[str],
    task: Task | None,
    model: str | None,
    out: Path,
    kinds: Sequence[str],
    how: dict[str, Any],
    where: dict[str, Any],
    thresholds: dict[str, Any],
    say: Console,
    *,
    overwrite: bool,
    skip_existing: bool,
    as_json: bool,
) -> None:
    """Predict clips one after the other. how: as `Clip` takes it. Exits with 1 if frames or clips failed."""
    from segcli.files.locks import owned
    from segcli.files.writing import refuse_existing
    from segcli.inference.clips import ClipFiles
    from segcli.inference.planning import check_writable
    from segcli.inference.predict import resolve

    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other; give one of them")
    check_writable(out)
    plans = {name: ClipFiles.of(name, out, tuple(kinds)) for name in clips}
    if len({plan.stem for plan in plans.values()}) < len(plans):
        raise UsageError("two clips have the same name, so their results would collide; predict them in separate runs")
    for name, plan in list(plans.items()):
        there = [path for path in plan.paths().values() if path.exists()]
        if there and skip_existing and len(there) == len(plan.paths()):
            say.note(f"{name}: already done")
            del plans[name]
        elif there and not (overwrite or skip_existing):
            refuse_existing(there, "replace it with --overwrite, or choose another --out")
    if not plans:
        return
    loaded = load(model, task, where["device"], where["dtype"], where["threads"], say)
    settings = resolve(loaded.spec, task, **thresholds)
    introduce(loaded, (settings.task,), say)
    failed = 0
    with owned(out):
        for name, plan in plans.items():
            failed += _predict_one(loaded, settings, name, plan, how, say, as_json)
    if failed:
        raise typer.Exit(1)


def _predict_one(
    loaded: LoadedModel,
    settings: Settings,
    name: str,
    files: ClipFiles,
    how: dict[str, Any],
    say: Console,
    as_json: bool,
) -> int:
    """One clip; returns how many of its frames failed."""
    from segcli.inference.clips import predict_clip
    from segcli.inference.video import Clip

    started, done, failed, ids = time.perf_counter(), 0, 0, set[int]()
    with (
        Clip(name, **how) as clip,
        say.progress(f"predicting {Path(name).name}", clip.count) as advance,
        closing(predict_clip(loaded, clip, settings, files)) as frames,
    ):
        for frame in frames:
            if frame.error is not None:
                failed += 1
                console.error(frame.error)
            done += 1
            ids.update(frame.ids)
            if as_json:
                row: dict[str, Any] = {"clip": name, "frame": frame.number, "time": round(frame.time, 6)}
                console.json_line(row | {"ids": list(frame.ids), "names": list(frame.names), "error": frame.error})
            advance(1)
    seconds = time.perf_counter() - started
    made = ", ".join(str(path) for path in files.paths().values())
    say.note(
        f"{name}: {done} frames in {seconds:.1f} s ({done / max(seconds, 1e-9):.1f} a second), {len(ids)} ids; {made}"
    )
    return failed
