"""`segcli predict clip.mp4`: clips in, clips with ids out."""

from __future__ import annotations

import glob
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segcli import console
from segcli.cli.loading import introduce
from segcli.cli.predict.request import PredictRequest, made_with
from segcli.console import Column, Console
from segcli.errors import InputError, UsageError
from segcli.files.image_names import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from segcli.inference.video.clip import Clip
    from segcli.inference.video.predict_clip import FrameReport
    from segcli.inference.video.tally import Tally
    from segcli.weights.checkpoint import LoadedModel

_NUMBERED = re.compile(r"(.*?)(\d{3,})")
_A_CLIP = 10  # images in a row that may be frames
_CLIP_ENDS = (*VIDEO_SUFFIXES, ".gif", ".webp")


def clips_among(sources: Sequence[str], fps: float | None) -> list[str]:
    """The sources if they are clips, none if they are pictures. Raises UsageError if they are both."""
    if fps is None and not any("%" in name or ":" in name or name.lower().endswith(_CLIP_ENDS) for name in sources):
        return []  # without importing what reads clips
    from segcli.inference.video.clip import is_clip

    clips = [name for name in sources if is_clip(name) or (fps is not None and Path(name).is_dir())]
    if clips and len(clips) < len(sources):
        other = next(name for name in sources if name not in clips)
        raise UsageError(f"{clips[0]} is a clip and {other} is not; predict them in separate runs")
    return clips


def parse_every(text: str | None) -> int | Literal["auto"] | None:
    """ "2" -> 2. Raises UsageError for what is neither a number nor auto."""
    if text is None or text == "auto":
        return "auto" if text else None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--every {text}: give a number from 1 on, or auto")
    return int(text)


def hint_at_clips(folder: Path, pictures: Sequence[Path], say: Console) -> None:
    """Say of a folder that its clips are passed over, or that its pictures may be the frames of one."""
    clips = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if clips:
        say.note(f"{folder}: its clips are passed over; name them to predict them, as in {folder / clips[0]}")
    numbered = [_NUMBERED.fullmatch(path.stem) for path in pictures]
    if len(numbered) >= _A_CLIP and all(numbered):
        names, numbers = {match[1] for match in numbered if match}, {int(match[2]) for match in numbered if match}
        if len(names) == 1 and max(numbers) - min(numbers) + 1 == len(numbers) == len(pictures):
            say.note(
                f"{folder}: {len(pictures)} images numbered in a row; if they are frames, --fps 25 gives objects ids"
            )


def predict_clips(clips: Sequence[str], request: PredictRequest, how: dict[str, Any], say: Console) -> int:
    """Predict clips one after the other; returns how many frames failed. how: as `Clip` takes it."""
    from segcli.files.locks import owned
    from segcli.inference.planning import check_writable, refuse_other_clip
    from segcli.inference.video.clip import Clip
    from segcli.inference.video.kinds import Frames
    from segcli.inference.video.predict_clip import clip_stem, clip_targets

    if request.overwrite and request.skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other; give one of them")
    if how["end"] is not None and how["end"] <= how["start"]:
        raise UsageError(f"--end {how['end']:g}: is not after --start {how['start']:g}")
    if not any(":" in name or "%" in name or Path(name).exists() for name in clips):
        raise UsageError(f"{clips[0]}: no such file or folder")
    check_writable(request.out)
    stems = {name: clip_stem(name) for name in clips}
    if len(set(stems.values())) < len(stems):
        raise UsageError("two clips have the same name, so their results would collide; predict them in separate runs")
    targets = {name: clip_targets(request.out, stems[name], request.kinds) for name in clips}
    left = [name for name in clips if not _is_done(name, stems[name], targets[name], request)]
    failed = 0
    loaded: LoadedModel | None = None
    for name in (name for name in clips if name not in left):
        about = request.out / f"{stems[name]}{Frames.suffixes[1]}"
        if about in targets[name]:  # else nothing says how it was made
            loaded = loaded or request.load(say)
            refuse_other_clip(about, _made_how(loaded, request, how))
        say.note(f"{name}: already done")
    for name in left:
        try:
            with Clip(name, **how) as clip:  # before a model is loaded for it
                loaded = loaded or request.load(say)
                if name == left[0]:
                    introduce(loaded, (request.resolve(loaded).task,), say)
                with owned(request.out) if request.kinds else nullcontext():
                    failed += _predict_one(loaded, clip, stems[name], request, how, say)
        except InputError as error:  # of this clip; the others go on
            if len(left) == 1:
                raise
            console.error(str(error))
            failed += 1
    return failed


def _is_done(name: str, stem: str, targets: Sequence[Path], request: PredictRequest) -> bool:
    """Whether nothing is left to do for a clip. Raises UsageError where results would be replaced unasked."""
    from segcli.files.writing import refuse_existing
    from segcli.inference.video.clip import is_live

    there = [path for path in targets if path.exists()]
    begun = request.out / f"{stem}.partial.state.json"
    left = sorted(request.out.glob(f"{glob.escape(stem)}.partial*"))
    if is_live(name) and left and not (begun.exists() or request.overwrite):
        raise UsageError(
            f"{left[0]}: an earlier run was killed, and left what it had done; rename it, or remove it with --overwrite"
        )
    if request.skip_existing:
        return bool(targets) and len(there) == len(targets) and not begun.exists()
    if not request.overwrite:
        refuse_existing(there, "replace it with --overwrite, or choose another --out")
        if begun.exists():
            raise UsageError(
                f"{begun}: an earlier run was interrupted; continue it with --skip-existing, or begin anew with "
                "--overwrite"
            )
    return False


def _predict_one(
    loaded: LoadedModel,
    clip: Clip,
    stem: str,
    request: PredictRequest,
    how: Mapping[str, Any],
    say: Console,
) -> int:
    """One clip; returns how many of its frames failed."""
    from segcli.inference.video.kinds import ClipRun
    from segcli.inference.video.predict_clip import clip_targets, predict_clip
    from segcli.inference.video.tally import Tally
    from segcli.results.record import class_records

    settings = request.resolve(loaded)
    clip.levels, clip.max_pixels = settings.spec.levels, request.max_pixels
    facts = {"file_name": clip.name, **_made_how(loaded, request, how), "fps": round(float(clip.rate), 3)}
    facts["classes"] = class_records(settings.spec.labels)
    run = ClipRun(clip, request.out, stem, request.kinds, settings.task, settings.spec.labels, request.style, facts)
    tally, started, finished = Tally(), time.perf_counter(), False
    frames = predict_clip(loaded, settings, run, resume=request.skip_existing, tally=tally)
    try:
        with (
            _ends_on_interrupt(clip, say),
            closing(frames),
            say.progress(f"predicting {Path(clip.name).name}", clip.count) as advance,
        ):
            for frame in frames:
                if frame.error is not None:
                    console.error(frame.error)
                if request.as_json:
                    console.json_line(_as_json(clip, frame, facts))
                advance(1)
        finished = True
    finally:
        if not finished and tally.frames and request.kinds:
            say.note(f"stopped after {tally.frames} frames, which are in {stem}.partial.…; --skip-existing continues")
    targets = clip_targets(request.out, stem, request.kinds)
    _show(tally, clip, time.perf_counter() - started, targets, say, table=not request.as_json)
    if clip.damage:
        what, rest = ("ended", "came before") if clip.is_live else ("damaged or cut short", "can be decoded")
        console.error(f"{clip.name}: {what} ({clip.damage}); what {rest} is predicted")
    return tally.failed + bool(clip.damage)


def _made_how(loaded: LoadedModel, request: PredictRequest, how: Mapping[str, Any]) -> dict[str, Any]:
    """What the file about a clip says of the run that made it, as far as it is not of the clip."""
    settings = request.resolve(loaded)
    chosen = {key: value for key, value in how.items() if key != "fps"}  # the clip knows it
    return made_with(loaded, settings) | {"task": settings.task} | chosen


def _show(tally: Tally, clip: Clip, seconds: float, targets: Sequence[Path], say: Console, *, table: bool) -> None:
    """A table of classes on stdout, the rest on stderr."""
    if table and tally.objects:
        order = sorted(tally.objects, key=lambda name: (-tally.seen[name], name))
        columns = [Column("class"), Column("objects", numeric=True), Column("frames", numeric=True)]
        rows = [[name, str(len(tally.objects[name])), str(tally.seen[name])] for name in order]
        say.table(columns, rows, title=clip.name)
    frames = tally.frames - tally.earlier
    plural = "" if frames == 1 else "s"
    parts = [f"{frames} frame{plural} in {seconds:.1f} s ({frames / max(seconds, 1e-9):.1f} a second)"]
    if tally.earlier:
        parts.append(f"{tally.earlier} before")
    if clip.left_out:
        parts.append(f"{clip.left_out} skipped to keep up")
    if any(path.suffix == ".mp4" for path in targets) and clip.sound:
        parts.append("its sound copied" if clip.keeps_sound else f"without its sound, as MP4 has no {clip.sound}")
    files = "; " + ", ".join(map(str, targets)) if targets else ""
    say.note(f"{clip.name}: {', '.join(parts)}{files}")


def _as_json(clip: Clip, frame: FrameReport, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The line that --json prints for a frame: that of a photo, with the frame's number and time."""
    row: dict[str, Any] = {"path": clip.name, "ok": frame.error is None, "frame": frame.number}
    row["time"] = round(frame.time, 6)
    if frame.error is not None or frame.size is None:
        return row | {"error": frame.error}
    height, width = frame.size
    best = None if frame.best_score != frame.best_score else round(frame.best_score, 6)
    row |= {"model": facts["model"], "task": facts["task"], "size": {"width": width, "height": height}}
    row["timings"] = {step: round(milliseconds, 1) for step, milliseconds in frame.milliseconds.items()}
    return row | {"best_score": best, "segments": frame.segments}


@contextmanager
def _ends_on_interrupt(clip: Clip, say: Console) -> Iterator[None]:
    """Ctrl-C or SIGTERM ends a camera or stream, whose results are then complete; a second one stops the program."""
    if not clip.is_live or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(*_: object) -> None:
        restore()
        clip.stop()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, end)
    say.note(f"{clip.name}: Ctrl-C ends it")
    try:
        yield
    finally:
        restore()
