"""The README of a trained model's folder: what it is, what it saw, how good it is and at which thresholds."""

from __future__ import annotations

from segcli.files.text import percent
from segcli.training.recipe import FullRecipe
from segcli.training.reports import ValidationReport
from segcli.training.setup import Material
from segcli.weights.checkpoint import LoadedModel

_ROWS = 60  # classes in the table


def model_card(loaded: LoadedModel, recipe: FullRecipe, material: Material, report: ValidationReport) -> str:
    """Markdown with the front matter that the Hugging Face Hub reads."""
    config = loaded.config
    spec, table, metric = loaded.spec, recipe.schedule, report.metric
    train = len(material.train)
    batch = table.batch * table.accumulate
    measured = "" if report.is_final else "; measured during training"
    crop = " × ".join(map(str, recipe.augment.crop))
    licence = loaded.facts.get("licence of the starting model")
    lines = [
        "---",
        "library_name: segcli",
        "pipeline_tag: image-segmentation",
        f"tags: [{config.model_type}, " + ", ".join(spec.tasks) + "]",
        "---",
        "",
        f"# {config.title} for {material.info.root.name}",
        "",
        f"{metric.name} {percent(metric.value)} on {report.images} validation images after {report.step} steps "
        f"({report.thresholds}{measured}).",
        "",
        "```",
        f"segcli predict photo.jpg --model FOLDER --task {spec.tasks[0]}",
        "```",
        "",
        f"transformers loads the same folder with `{config.transformers_class}.from_pretrained`."
        if config.transformers_class
        else "transformers has no such model; segcli reads this folder.",
        "",
        "## Training",
        "",
        f"- Data: {material.info.found}",
        f"- {train} images to train on, {len(material.val)} to validate on",
        f"- Begun from: {loaded.facts.get('started from', 'unknown')}" + (f" ({licence})" if licence else ""),
        *([f"- Taught by: {loaded.facts['taught by']}"] if "taught by" in loaded.facts else []),
        f"- {report.step} of {table.steps} steps of {batch} images a device, crops of {crop}, "
        f"precision {recipe.run.dtype}, weight average {table.ema:g}",
        f"- Size in prediction: {spec.size.in_words()}",
        "",
        "## Quality on the validation images",
        "",
        *_summary(report),
        "",
        f"Best class probability of an image: {report.best_score:.2f} at most; "
        f"{percent(report.empty)} of the images have no segment at these thresholds.",
        "",
        *_classes(report),
        "",
        "## Limits",
        "",
        "It knows the classes above and the kind of photographs it was trained on; on others it may find nothing, or "
        "something wrong with confidence. The licence and the terms of the training data apply to its use.",
    ]
    return "\n".join(lines) + "\n"


def _summary(report: ValidationReport) -> list[str]:
    numbers = {name: value for name, value in report.metric.summary.items() if value == value}
    return ["| | |", "|---|---|", *(f"| {name} | {percent(value)} |" for name, value in numbers.items())]


def _classes(report: ValidationReport) -> list[str]:
    rows = report.metric.table[:_ROWS]
    headline = {"mIoU": "IoU"}.get(report.metric.name, report.metric.name)
    lines = [f"| class | id | {headline} |", "|---|---|---|"]
    lines += [f"| {row['name']} | {row['id']} | {percent(float(row[headline]))} |" for row in rows]
    if len(report.metric.table) > _ROWS:
        lines.append(f"| … and {len(report.metric.table) - _ROWS} more | | |")
    return lines
