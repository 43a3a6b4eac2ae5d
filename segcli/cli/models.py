"""`segcli models`: what there is to predict with, where it lies, and whether it computes what it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segcli import console
from segcli.cli.options import DeviceName, DeviceOption, complete_model
from segcli.errors import UsageError, WeightsUnavailable

if TYPE_CHECKING:
    from segcli.weights.golden import GoldenPhoto
    from segcli.weights.manifest import ManifestEntry

app = typer.Typer(no_args_is_help=True, help="List, download and check the models segcli knows.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=complete_model, help="A name from `segcli models list`.")
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
def list_models(as_json: JsonOption = False) -> None:
    """List the models segcli knows by name, with their published metrics and the licence of their weights."""
    from segcli.console import Column
    from segcli.weights.manifest import manifest

    entries = manifest().values()
    if as_json:
        console.json_document([_facts(entry) for entry in entries])
        return
    columns = [Column("Name"), Column("Metric", numeric=True), Column("Licence"), Column("Here")]  # fits 80 columns
    rows = [_row(entry) for entry in entries]
    console.table(columns, rows)
    console.result("* the task's default, without --model. Panoptic models do all three tasks.")
    console.result("Metrics are the authors' own; ✓ verified with segcli. More: segcli models show NAME")


def _row(entry: ManifestEntry) -> list[object]:
    from segcli.weights.hub import is_here
    from segcli.weights.manifest import default_for

    star = " *" if any(default_for(task) == entry.name for task in entry.tasks) else ""
    check = " ✓" if entry.verified else "  "
    return [entry.name + star, entry.headline + check, entry.licence, is_here(entry.name) or "-"]


@app.command()
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show everything known of one model: where it comes from, how it is run, what it was measured to do."""
    from segcli.console import Column
    from segcli.weights import hub
    from segcli.weights.manifest import label_table

    entry = hub.known(name)
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
        ("weights", "-" if entry.weights is None else f"{entry.weights}, {entry.megabytes or 0:.0f} MB"),
        ("here", hub.is_here(entry.name) or f"no: segcli models pull {entry.name}"),
        ("licence", f"{entry.licence} (of the weights)"),
        ("network", f"{entry.family}, {entry.backbone}, {entry.queries} queries, {entry.parameters:,} parameters"),
        ("backbone from", entry.pretrained or "-"),
        ("tasks", ", ".join(entry.tasks)),
        ("classes", described if entry.labels else "as the checkpoint names them"),
        ("test size", f"short side {entry.size.short}, long side at most {entry.size.long}"),
        ("merge rule", f"score {entry.rule.score}, overlap {entry.rule.overlap}, mask {entry.rule.mask_min}"),
        (entry.status, f"{metrics or '-'}{f' on {entry.measured}' if entry.measured else ''}"),
    ]
    console.table([Column("Fact"), Column("Value")], rows + ([("note", entry.note)] if entry.note else []))


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
        "size": asdict(entry.size),
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
        say.note(f"{files.name} is on this machine already ({files.source})")
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
        Path | None, typer.Option("--data", metavar="DIR", help="A folder of COCO, in which the photo is looked for.")
    ] = None,
    device: DeviceOption = DeviceName.auto,
) -> None:
    """Check that a model computes what its authors' did: known outputs for one photo of COCO val2017.

    The published metric is not measured: that needs `segcli eval`, which this version does not have.
    """
    from segcli.codecs.image import read_image
    from segcli.console import Column
    from segcli.weights import golden, hub
    from segcli.weights.checkpoint import load_model

    files = hub.find(name)
    entry = files.entry if files else hub.known(name.partition("@")[0])
    known = golden.golden_values()
    if entry is None or entry.name not in known:
        raise UsageError(f"no outputs of {name} are published; they are of {' and '.join(known)}")
    image = read_image(_golden_photo(golden.photo(), photo, data))
    values = known[entry.name]
    say = console.Console()
    loaded = load_model(
        name, device=device.value, dtype="fp32", progress=lambda what, size: say.progress(what, size, bytes=True)
    )
    checks = golden.check(loaded, image, values)
    columns = [Column("Output"), Column("Largest difference", numeric=True), Column("Within tolerance")]
    console.table(columns, [(c.what, f"{c.difference:.1e}", "yes" if c.passed else "NO") for c in checks])
    console.result(f"Expected outputs: {values.source}; tolerance {values.tolerance:g}, absolute plus relative.")
    console.result(f"Not measured: the published metric ({entry.headline}); that comes with `segcli eval`.")
    if not all(c.passed for c in checks):
        raise typer.Exit(1)


def _golden_photo(known: GoldenPhoto, photo: Path | None, data: Path | None) -> Path:
    """The file that holds the photo. Raises UsageError if it is not given, not there or another one."""
    if photo is None and data is not None:
        file = Path(known.url).name
        places = [data / file, data / "val2017" / file, data / "images" / file, data / "images" / "val2017" / file]
        photo = next((place for place in places if place.is_file()), None)
        if photo is None:
            raise UsageError(
                f"{data} has no {file}, nor has val2017/ or images/ in it: give the photo with --photo FILE"
            )
    if photo is None:
        raise UsageError(f"this needs a photo, {known.name}: give it with --photo FILE (download: {known.url})")
    if not photo.is_file():
        raise UsageError(f"there is no file {photo}")
    if not known.is_in(photo):
        raise UsageError(f"{photo} is not {known.name}: its SHA-256 is not {known.sha256}")
    return photo
