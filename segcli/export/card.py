"""The README of an exported folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segcli.export.contract import ABOUT, WHOLE, ExportFacts
from segcli.export.runtimes import RUNTIMES

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel


def export_card(loaded: LoadedModel, facts: ExportFacts) -> str:
    """Markdown: what the folder is, how it is run with and without segcli, what goes in and comes out."""
    runtime = RUNTIMES[facts.runtime]
    sides = f"{facts.size[0]} × {facts.size[1]} (height × width)" if facts.size else f"any multiples of {WHOLE} pixels"
    licence = loaded.facts.get("licence")
    made_with = ", ".join(f"{name} {version}" for name, version in facts.made_with.items() if name != "nodes")
    names = ", ".join(label.name for label in loaded.labels)
    lines = [
        f"# {loaded.name} for {runtime.title}",
        "",
        f"{loaded.config.title}, {', '.join(loaded.spec.tasks)}, {facts.dtype}, exported by segcli.",
        "",
        "```",
        "segcli predict photo.jpg --model FOLDER      # with segcli, in " + runtime.title,
        f"python predict.py photo.jpg                  # without: needs numpy, pillow ≥ 10.1, {runtime.package}",
        "```",
        "",
        f"- Input: {sides}; {facts.batch or 'any number of'} image{'s' * (facts.batch != 1)} at a time",
        f"- Photos are predicted with {loaded.spec.size.in_words()}",
        f"- Made with {made_with}",
        "- verify.json: how far its answers are from PyTorch's in fp32; absent after --no-verify",
        f"- Licence of the weights: {licence}" if licence else "- The licence of the weights is that of the model",
        "",
        "| tensor | what |",
        "|---|---|",
        *(f"| `{name}` | {about} |" for name, about in ABOUT.items()),
        "",
        "A graph has those of these that its model has: `padding` and `boxes` are DETR's; masks are two factors, or "
        "`mask_logits` where they have none or `--dense` was asked for.",
        "",
        f"Classes, in the order of the logits: {names}.",
    ]
    return "\n".join(lines) + "\n"
