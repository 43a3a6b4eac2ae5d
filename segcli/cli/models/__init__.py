"""`segcli models`: which models there are, where their files are, and whether they compute what they should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segcli import console
from segcli.cli.app import App
from segcli.cli.models.folders import convert, push
from segcli.cli.models.own import OwnModel
from segcli.cli.options import BatchSizeOption, DeviceOption, complete_model
from segcli.errors import UsageError, WeightsUnavailable
from segcli.types import Task

if TYPE_CHECKING:
    from segcli.console import Console
    from segcli.weights.checkpoint import LoadedModel
    from segcli.weights.golden import Golden, GoldenPhoto
    from segcli.weights.manifest import ManifestEntry

app = App(
    help="""List, download, check and convert models.

    segcli models list

    segcli models show facade

    segcli models pull swin-tiny-coco-panoptic
    """
)
app.command()(convert)
app.command()(push)

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        autocompletion=complete_model,
        help="A name from the list, a folder such as RUN/best, or org/name on the Hub that was downloaded.",
    ),
]
RefArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=complete_model,
        help="A name from the list or org/name on the Hub, either with @revision.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command(name="list")
def list_models(
    task: Annotated[Task | None, typer.Option("--task", "-t", help="Only models that can be asked for it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models segcli knows by name, with their published metrics and the licence of their weights.

    Those on this machine come first, then the others by task and data, the best of each first.
    """
    from itertools import groupby

    from segcli.console import Column
    from segcli.weights.manifest import manifest

    entries = [entry for entry in manifest().values() if task in (None, *entry.tasks)]
    if as_json:
        console.json_document([_facts(entry) for entry in entries])
        return
    columns = [Column("Name"), Column("Tasks"), Column("Metric", numeric=True), Column("Size", numeric=True)]
    columns += [Column("Licence")]
    data = list(dict.fromkeys(entry.measured for entry in entries))
    entries.sort(key=lambda entry: (_group(entry), data.index(entry.measured), -next(iter(entry.metrics.values()), 0)))
    rows: list[list[object]] = []
    for title, members in groupby(entries, key=_title):
        blank: list[object] = [""] * len(columns)
        rows += [blank] * bool(rows) + [[title, *blank[1:]]]
        rows += [_row(entry) for entry in members]
    console.table(columns, rows, full="--json")
    console.result("* a task's default. Tasks: panoptic, instance, semantic, detect. Size: parameters.")
    console.result("Metrics are the authors' own; ✓ verified with segcli.")
    console.result("More: segcli models show NAME")


def _group(entry: ManifestEntry) -> int:
    """Where a model stands in the list: on this machine, or by its first task."""
    from segcli.types import TASKS
    from segcli.weights.hub import is_here

    here = is_here(entry.name)
    return ("bundled", "cached").index(here) if here else 2 + TASKS.index(entry.tasks[0])


def _title(entry: ManifestEntry) -> str:
    """What is above the rows of its group."""
    from segcli.weights.hub import is_here

    if here := is_here(entry.name):
        return {"bundled": "ready: ships with segcli", "cached": "ready: downloaded before"}[here]
    return f"{entry.tasks[0]}, {entry.measured}" if entry.measured else entry.tasks[0]


def _row(entry: ManifestEntry) -> list[object]:
    """At most 80 columns together: a table that fits every terminal."""
    from segcli.types import TASKS
    from segcli.weights.manifest import default_for
    from segcli.weights.verified import verifications

    here = verifications().get(entry.name)
    name = entry.name + " *" * any(default_for(task) == entry.name for task in entry.tasks)
    name += " ✓" * bool(entry.verified or (here is not None and here.passed))
    letters = "".join(task[0] if task in entry.tasks else "-" for task in TASKS)
    size = f"{entry.parameters / 1e6:.0f}M"
    return [name, letters, entry.headline, size, entry.licence.replace(" License", "")]


@app.command()
def show(name: ModelArgument, as_json: JsonOption = False) -> None:
    """Show everything known about one model: its source, how it is run, its measured metrics."""
    from segcli.console import Column
    from segcli.weights import hub
    from segcli.weights.manifest import label_table, lookup
    from segcli.weights.verified import verifications

    entry = lookup(name)
    if entry is None or (hub.own_folder(name) / hub.CONFIG).is_file():  # a folder wins, as everywhere
        own = OwnModel(name)
        if as_json:
            console.json_document(own.to_json())
        else:
            console.table([Column("Fact"), Column("Value")], own.rows())
        return
    labels = label_table(entry.labels) if entry.labels else ()
    if as_json:
        classes = [{"id": label.id, "name": label.name, "isthing": label.isthing} for label in labels]
        console.json_document(_facts(entry) | {"classes": classes})
        return
    things = sum(label.isthing for label in labels)
    described = f"{len(labels)} ({things} things, {len(labels) - things} stuff), table {entry.labels}"
    metrics = ", ".join(f"{metric} {value:.1f}" for metric, value in entry.metrics.items())
    rows = [
        ("name", entry.name),
        ("from", f"segcli itself ({entry.bundled_folder})" if entry.bundled else f"{entry.repo}@{entry.revision}"),
        ("weights", f"{entry.weights}, {entry.megabytes or 0:.0f} MB" if entry.weights else _shipped(entry)),
        ("here", hub.is_here(entry.name) or f"no: segcli models pull {entry.name}"),
        ("licence", f"{entry.licence} (of the weights)"),
        ("network", f"{entry.family}, {entry.backbone}, {entry.queries} queries, {entry.parameters:,} parameters"),
        ("backbone from", entry.pretrained or "-"),
        ("tasks", ", ".join(entry.tasks)),
        ("classes", described if entry.labels else "as the checkpoint names them"),
        ("test size", entry.size.in_words()),
        ("merge rule", entry.rule.shown_in_words(entry.tasks[0])),
        (entry.status, f"{metrics or '-'}{f' on {entry.measured}' if entry.measured else ''}"),
    ]
    if here := verifications().get(entry.name):
        numbers = ", ".join(f"{m.metric} {m.measured:.2f} ({m.difference:+.2f})" for m in here.metrics)
        rows.append(("measured here", f"{numbers} on {here.data['images']} images, {here.date}"))
    console.table([Column("Fact"), Column("Value")], rows + ([("note", entry.note)] if entry.note else []))


def _shipped(entry: ManifestEntry) -> str:
    """The file of a model that ships with segcli."""
    file = entry.bundled_folder / "model.safetensors" if entry.bundled_folder else None
    return f"{file.name}, {file.stat().st_size / 1e6:.0f} MB" if file and file.is_file() else "-"


def _facts(entry: ManifestEntry) -> dict[str, Any]:
    from dataclasses import asdict

    from segcli.types import TASKS
    from segcli.weights.hub import is_here
    from segcli.weights.manifest import default_for

    plain = {
        key: getattr(entry, key)
        for key in ("name", "family", "repo", "revision", "weights", "bundled", "megabytes", "backbone", "pretrained")
    }
    return plain | {
        "queries": entry.queries,
        "parameters": entry.parameters,
        "tasks": list(entry.tasks),
        "default_for": [task for task in TASKS if default_for(task) == entry.name],
        "labels": entry.labels,
        "size": entry.size.to_table(),
        "rule": asdict(entry.rule),
        "metrics": dict(entry.metrics),
        "measured": entry.measured,
        "status": entry.status,
        "licence": entry.licence,
        "note": entry.note,
        "here": is_here(entry.name),
    }


@app.command()
def pull(name: RefArgument) -> None:
    """Download a model into the cache of huggingface_hub, and print its folder."""
    from segcli.console import Console
    from segcli.weights.hub import locate

    def progress(what: str, size: int | None) -> Any:
        return say.progress(what, size, bytes=True)

    say = Console()
    files = locate(name, progress=progress)
    if files.source != "download":
        say.note(f"{files.name} is already on this machine ({files.source})")
    if files.entry is not None:
        say.note(f"licence of the weights: {files.entry.licence}")
    console.result(files.folder)


@app.command()
def path(name: RefArgument) -> None:
    """Print the folder of a model that is on this machine; never touches the network."""
    from segcli.weights.hub import find

    files = find(name)
    if files is None:
        raise WeightsUnavailable(f"{name} is not on this machine: segcli models pull {name}")
    console.result(files.folder)


@app.command()
def verify(
    name: RefArgument,
    photo: Annotated[
        Path | None, typer.Option("--photo", metavar="FILE", help="The photo 000000039769.jpg of COCO val2017.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="The dataset of the published metric; may also hold the reference photo.",
        ),
    ] = None,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta", help="Measure the published ms+flip instead, over six sizes and mirror images (17 times the work)."
        ),
    ] = False,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 1,
) -> None:
    """Check that a model computes what its authors' code did: known outputs for one photo, and the published metric.

    With --data the model is measured by its own protocol on that data (hours for COCO on a CPU), and the result is
    kept in a file of your own, which `segcli models list` and `show` read.
    """
    from segcli.weights import golden, hub
    from segcli.weights.checkpoint import load_model

    files = hub.find(name)
    entry = files.entry if files else hub.known(name.partition("@")[0])
    known = golden.golden_values()
    values = known.get(entry.name) if entry else None
    if tta and data is None:
        raise UsageError("--tta applies to the published metric; give its dataset with --data DIR")
    if data is not None and not data.is_dir():
        raise UsageError(f"{data}: no such folder; --data names the dataset of the published numbers")
    if entry is None or (values is None and data is None):
        raise UsageError(
            f"there are no reference outputs of {name}, only of {', '.join(known)}"
            + (f"; give --data DIR with {entry.measured}, to measure {entry.headline}" if entry else "")
        )
    measured = data is not None and _is_dataset(data)
    if data is not None and not measured and values is None:
        raise UsageError(f"{data}: no dataset in it, but {entry.headline} was measured on {entry.measured}")
    shown = None
    if values is not None and (photo is not None or not measured or _photo_in(golden.photo(), data)):
        shown = _golden_photo(golden.photo(), photo, data)
    say = console.Console()
    loaded = load_model(
        name, device=device, dtype="fp32", progress=lambda what, size: say.progress(what, size, bytes=True)
    )
    passed = True
    if shown is not None and values is not None:
        passed = _check_outputs(loaded, shown, values)
    if measured and data is not None:
        passed = _check_metric(loaded, entry, data, batch_size, tta, say) and passed
    else:
        console.result(f"Not measured: the published metric ({entry.headline}); --data DIR with {entry.measured} does.")
    if not passed:
        raise typer.Exit(1)


def _check_outputs(loaded: LoadedModel, photo: Path, values: Golden) -> bool:
    """The known outputs for the one photo."""
    from segcli.codecs.image import read_image
    from segcli.console import Column
    from segcli.weights import golden

    checks = golden.check(loaded, read_image(photo), values)
    columns = [Column("Output"), Column("Largest difference", numeric=True), Column("Within tolerance")]
    console.table(columns, [(c.what, f"{c.difference:.1e}", "yes" if c.passed else "NO") for c in checks])
    console.result(f"Expected outputs: {values.source}; tolerance {values.tolerance:g}, absolute plus relative.")
    return all(c.passed for c in checks)


def _check_metric(
    loaded: LoadedModel, entry: ManifestEntry, data: Path, batch_size: int, tta: bool, say: Console
) -> bool:
    """The published metric, measured; kept in the user's own file."""
    from segcli.cli.screens.eval_screen import EvalScreen
    from segcli.console import Column
    from segcli.evaluation.published import TOLERANCE, expected_images, open_verification, verification
    from segcli.weights.verified import AVERAGED, keep

    evaluation = open_verification(loaded, entry, data, batch_size=batch_size, tta=tta)
    with EvalScreen(say, evaluation) as screen:
        for _ in evaluation.run():
            screen.step()
        documents = evaluation.finish()
    found = verification(entry, evaluation, documents)
    expected, images = expected_images(entry), evaluation.scores.images
    complete = expected in (None, images)
    columns = [Column("Metric"), *(Column(head, numeric=True) for head in ("Published", "Measured", "Difference"))]
    rows = [(m.metric, f"{m.published:.1f}", f"{m.measured:.2f}", f"{m.difference:+.2f}") for m in found.metrics]
    console.table(
        [*columns, Column(f"Within {TOLERANCE}")],
        [
            (*row, ("yes" if m.agrees else "NO") if complete else "-")
            for row, m in zip(rows, found.metrics, strict=True)
        ],
    )
    console.result(f"Published on {entry.measured}; measured on {images} images of {found.data['root']}.")
    for task in documents:
        console.result(f"Protocol, {task}: {evaluation.in_words(task)}")
    others = [metric for metric in entry.metrics if metric not in {m.metric for m in found.metrics}]
    if others:
        listed = ", ".join(f"{metric} (with --tta)" if metric == AVERAGED else metric for metric in others)
        console.result(f"Not measured: {listed}.")
    for reason in evaluation.failed:
        console.error(f"left out: {reason}")
    if not complete:
        told = "no comparison is made, and nothing is stored"
        console.warning(f"{entry.measured}: that is {expected} images, not {images}; {told}")
        return False
    console.result(f"Kept in {keep(found)}.")
    return found.metrics[0].agrees


def _is_dataset(folder: Path) -> bool:
    from segcli.data.detect import is_dataset

    return folder.is_dir() and is_dataset(folder)


def _photo_in(known: GoldenPhoto, data: Path | None) -> Path | None:
    """The known photo in a folder of COCO, if it is there."""
    if data is None:
        return None
    file = Path(known.url).name
    places = [data / file, data / "val2017" / file, data / "images" / file, data / "images" / "val2017" / file]
    return next((place for place in places if place.is_file()), None)


def _golden_photo(known: GoldenPhoto, photo: Path | None, data: Path | None) -> Path:
    """The file that holds the photo. Raises UsageError if it is not given, not there or another one."""
    if photo is None and data is not None:
        photo = _photo_in(known, data)
        if photo is None:
            where = f"{data} has no {Path(known.url).name} in it, in val2017/ or in images/"
            raise UsageError(f"{where}: give the photo with --photo FILE")
    if photo is None:
        raise UsageError(f"this needs a photo, {known.name}: give it with --photo FILE (download: {known.url})")
    if not photo.is_file():
        raise UsageError(f"there is no file {photo}")
    if not known.is_in(photo):
        raise UsageError(f"{photo} is not {known.name}: its SHA-256 is not {known.sha256}")
    return photo
