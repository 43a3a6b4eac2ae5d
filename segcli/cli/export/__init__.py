"""`segcli export`: a model as a folder for another runtime, proven to answer the same."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from segcli import console
from segcli.cli import options
from segcli.cli.export.metric import Headline, calibration, measure, validation_photos
from segcli.console import Console
from segcli.errors import UsageError
from segcli.files.text import some

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from segcli.export.exporter import Exported, Request
    from segcli.export.verify import Agreement
    from segcli.files.image_ref import ImageRef
    from segcli.weights.checkpoint import LoadedModel


RuntimeName = Literal["onnx", "openvino"]
ExportDtype = Literal["fp32", "fp16", "int8"]

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        show_default=False,
        autocompletion=options.complete_model,
        help="A folder, a name from `segcli models list`, or org/name on the Hugging Face Hub.",
    ),
]
ToOption = Annotated[
    RuntimeName, typer.Option("--to", help="The runtime: ONNX Runtime (and all that reads ONNX), or OpenVINO.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        *("--out", "-o"),
        metavar="DIR",
        show_default=False,
        callback=options.local,
        help="The folder; MODEL-onnx or MODEL-openvino if not given.",
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="HxW",
        show_default=False,
        help="One fixed input size, such as 512x512; without it the graph takes every size (EoMT: its own square).",
    ),
]
BatchOption = Annotated[
    str, typer.Option("--batch", metavar="N", help="Images at a time: a number, or dynamic for any number.")
]
DtypeOption = Annotated[ExportDtype, typer.Option("--dtype", help="Precision; int8 needs --data and --to openvino.")]
DenseOption = Annotated[
    bool, typer.Option("--dense", help="Give mask logits instead of their two factors, for runtimes that want them.")
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        show_default=False,
        help="A dataset: its metric is measured before and after; int8 learns its ranges from it.",
        rich_help_panel=options.DATA,
    ),
]
ImagesOption = Annotated[
    int | None,
    typer.Option(
        "--images",
        metavar="N",
        min=1,
        show_default=False,
        help="Measure on the first N images of the validation split.",
        rich_help_panel=options.DATA,
    ),
]
VerifyOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--verify",
        metavar="PHOTO",
        show_default=False,
        help="Compare on this photo (repeat it for more); photos that come with segcli if not given.",
    ),
]
NoVerifyOption = Annotated[bool, typer.Option("--no-verify", help="Do not compare the graph with PyTorch.")]


def export(
    model: ModelArgument,
    to: ToOption = "onnx",
    out: OutOption = None,
    size: SizeOption = None,
    short_side: options.ShortSideOption = None,
    batch: BatchOption = "dynamic",
    dtype: DtypeOption = "fp32",
    dense: DenseOption = False,
    data: DataOption = None,
    format: options.FormatOption = None,
    images: ImagesOption = None,
    verify: VerifyOption = None,
    no_verify: NoVerifyOption = False,
    threads: options.ThreadsOption = None,
    overwrite: options.OverwriteOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    quiet: options.QuietOption = False,
) -> None:
    """Export a model to ONNX Runtime or OpenVINO, and check that it finds the same segments there.

    segcli export facade --to onnx

    segcli export runs/mine/best --to openvino --data data/mine
    """
    from segcli.export.exported_model import load_exported
    from segcli.export.exporter import Request, check_request, choose_out, export_model, usual_shape
    from segcli.export.graph import InputShape
    from segcli.inference.predict import resized
    from segcli.weights.checkpoint import load_model
    from segcli.weights.hub import is_exported, own_folder

    say = Console(quiet=quiet)
    shape = InputShape(_size(size), _batch(batch))
    if dtype == "int8" and to != "openvino":
        raise UsageError("--dtype int8 is for --to openvino; add it")
    if verify and no_verify:
        raise UsageError("--verify and --no-verify contradict each other; leave one out")
    if size and short_side:
        raise UsageError("--size fixes both sides of the input; leave out --short-side")
    if dtype == "int8" and data is None:
        raise UsageError("--dtype int8 needs --data DIR: it learns the ranges of its numbers from images")
    for photo in verify or []:
        if not photo.is_file():
            raise UsageError(f"--verify {photo}: {'a folder; name its photos' if photo.is_dir() else 'no such file'}")
    if images and data is None:
        raise UsageError("--images is how many of --data's images are measured; add --data DIR")
    if is_exported(own_folder(model)):
        raise UsageError(f"{model}: exported already; export the model it was made from")
    if threads:
        import torch

        torch.set_num_threads(threads)

    def progress(what: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        return say.progress(what, total, bytes=True)

    loaded = load_model(model, "cpu", "fp32", progress=progress)
    loaded = dataclasses.replace(
        loaded,
        spec=dataclasses.replace(loaded.spec, size=resized(loaded.spec.size, short_side=short_side)),
    )
    request = Request(to, usual_shape(loaded.spec, shape), dtype, dense)
    check_request(loaded, request)
    folder = choose_out(loaded, to, out, overwrite)
    photos = None if no_verify else _photos(verify, data, format, loaded, request)
    before = None if data is None else measure(loaded, data, format, images, say)
    if dtype == "int8" and before is not None and not math.isfinite(before.points):
        raise UsageError(f"{data}: has no {before.name} for this model, and int8 is not accepted without one")
    say.note(f"tracing {loaded.name}, which may take minutes")
    made: dict[str, Any] = {}
    after = None
    with tempfile.TemporaryDirectory() as begun:  # int8 is made of a graph in fp32
        with say.progress(f"exporting {loaded.name}", None):
            exported = export_model(loaded, request, Path(begun) / folder.name if dtype == "int8" else folder)
        if dtype == "int8" and data is not None and before is not None:
            exported, made["blocks"], after = _quantise(loaded, exported, folder, data, format, images, before, say)
    say.note(
        f"{folder}: {exported.nodes} nodes, {exported.megabytes:.1f} MB, {exported.seconds:.0f} s; run it with "
        f"`segcli predict PHOTO --model {folder}`, or without segcli by {folder / 'predict.py'}"
    )
    counts = {"nodes": exported.nodes, "megabytes": round(exported.megabytes, 1)}
    result: dict[str, Any] = {"folder": str(folder)} | counts | made
    passed = True
    if photos is not None:
        verification = _verify(loaded, folder, photos, say)
        result["verify"] = verification.to_table()
        passed = verification.passed
    if data is not None and before is not None:
        after = after or measure(load_exported(folder, "cpu"), data, format, images, say)
        result["metric"] = _compare_metric(before, after, say)
    if as_json:
        console.result(json.dumps(result, ensure_ascii=False))
    if not passed:
        console.error(f"{folder}: its answers differ from PyTorch's by more than the limits; see verify.json there")
        raise typer.Exit(1)


def _quantise(
    loaded: LoadedModel,
    exported: Exported,
    folder: Path,
    data: Path,
    format: str | None,
    images: int | None,
    before: Headline,
    say: Console,
) -> tuple[Exported, list[dict[str, Any]], Headline]:
    """Make a folder in int8 and print what each block takes; -> it, that, and the metric after."""
    from segcli.export.exporter import spec_for, write_int8
    from segcli.export.quantise import AGREEMENT, CALIBRATION, BlockDamage

    def metric(candidate: LoadedModel) -> float:
        return measure(candidate, data, format, images, say).points

    def show(rows: list[BlockDamage]) -> None:
        say.note(f"{'block quantised by itself':28} {'products':>8} {'mask bits':>9} {'logits':>8} {'segments':>8}")
        for row in rows:
            say.note(
                f"{row.block[:28]:28} {row.operations:8} {100 * row.bits:8.2f}% {row.logits:8.1e} {row.segments:8.3f}"
                f"{'' if row.quantised else '  stays fp32'}"
            )
        say.note(f"blocks that leave less than {AGREEMENT:g} of the segments (mean IoU) stay in fp32")

    say.note(f"quantising by {CALIBRATION} images, one block at a time, which takes minutes")
    prepared = list(calibration(data, format, spec_for(loaded.spec, exported.facts.size), CALIBRATION))
    exported, rows, points = write_int8(
        loaded, exported, folder, prepared, metric, before.points, show, say.progress, say.note
    )
    return exported, [dataclasses.asdict(row) for row in rows], dataclasses.replace(before, points=points)


def _compare_metric(before: Headline, after: Headline, say: Console) -> dict[str, Any]:
    """The metric of the folder beside the model's own."""
    say.note(
        f"{after.name} {before.points:.2f} in PyTorch, {after.points:.2f} exported "
        f"({after.points - before.points:+.2f}), on {after.images} images"
    )
    return {"name": after.name, "before": before.points, "after": after.points, "images": after.images}


def _photos(
    asked: Sequence[Path] | None, data: Path | None, format: str | None, loaded: LoadedModel, request: Request
) -> list[tuple[str, np.ndarray]]:
    """What is compared: photos that were asked for, else three of the data, else segcli's own; each with its name.

    Raises UsageError for one that the graph will not take, before it is made.
    """
    from segcli.codecs.image import read_image
    from segcli.export.exporter import misfit
    from segcli.export.verify import fitted, own_photos

    size = request.shape.size
    photos: Sequence[Path | ImageRef] = asked or (
        validation_photos(data, format, loaded.spec, 3) if data else own_photos()
    )
    read = [(photo.name, read_image(photo, levels=loaded.spec.levels)) for photo in photos]
    if size is None:
        return read
    for index, (name, image) in enumerate(read):
        if becomes := misfit(loaded.spec, size, image):
            if not asked and not data:
                read[index] = name, fitted(image, size)
                continue
            where = "--verify" if asked else f"--data {data}:"
            raise UsageError(
                f"{where} {name} becomes {becomes[0]}x{becomes[1]}, and --size {size[0]}x{size[1]} takes nothing else "
                "than that; give a square size, which takes every photo, or leave it out"
            )
    return read


def _verify(loaded: LoadedModel, folder: Path, photos: Sequence[tuple[str, np.ndarray]], say: Console) -> Agreement:
    """Compare with PyTorch on photos; print a table, and write verify.json."""
    from segcli.export.exported_model import load_exported
    from segcli.export.exporter import write_json
    from segcli.export.verify import LIMITS, Agreement, compare
    from segcli.inference.predict import choose_task

    exported = load_exported(folder, "cpu")
    rows = []
    say.note(f"comparing with PyTorch on {some(len(photos), 'photo')}")
    with say.progress("comparing with PyTorch", len(photos)) as advance:
        for row in compare(loaded, exported, photos):
            rows.append(row)
            advance(1)
    dtype = str(exported.facts["exported"])
    verification = Agreement(dtype, choose_task(exported.spec, None), LIMITS[dtype], tuple(rows))
    write_json(folder / "verify.json", verification.to_table())
    _show(verification, say)
    return verification


def _show(verification: Agreement, say: Console) -> None:
    """The comparison as a table."""
    lines = [f"{'photo':24} {'logits':>9} {'masks':>9} {'mask bits':>10} {'segments':>9} {'IoU':>7} {'scores':>9}"]
    lines += [
        f"{row.photo[:24]:24} {row.logits:9.1e} {row.masks:9.1e} {100 * row.bits:9.4f}% "
        f"{f'{row.found}/{row.count}':>9} {row.iou:7.4f} {row.score:9.1e}"
        for row in verification.photos
    ]
    verdict = "passed" if verification.passed else "FAILED"
    lines.append(f"{verdict}: {verification.dtype} against PyTorch fp32; limits: {verification.limits.in_words()}")
    for line in lines:
        say.note(line)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) == 1:
        sides *= 2
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() and len(side) < 6 for side in sides):
        raise UsageError(f"--size {text[:40]}: height and width in pixels, such as 512x768")
    return int(sides[0]), int(sides[1])


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1024):
        raise UsageError(f"--batch {text[:40]}: a number of images from 1 to 1024, or dynamic")
    return int(text)
