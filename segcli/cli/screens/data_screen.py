"""What `segcli data` shows: findings, losses and counts as lines and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from segcli import console
from segcli.console import Column, Console
from segcli.files.text import some
from segcli.types import OBJECT_TASKS, Label, Task

if TYPE_CHECKING:
    from segcli.data.checking.check import CheckReport, Finding
    from segcli.data.checking.scan import SplitReport
    from segcli.data.checking.stats import SplitStats
    from segcli.data.converting.convert import Written
    from segcli.data.records import DatasetInfo

NAMED = 12  # classes that are listed by name in one line


def findings_as_json(info: DatasetInfo, report: CheckReport) -> dict[str, Any]:
    """Everything that was found, for a program."""
    return {
        "kind": "segcli data check",
        "data": str(info.root),
        "format": info.format,
        "task": info.task,
        "splits": [asdict(split) for split in report.splits],
        "advice": report.advice,
        "counts": {kind: len(report.of_kind(kind)) for kind in dict.fromkeys(f.kind for f in report.findings)},
        "findings": [asdict(finding) for finding in report.findings],
    }


def show_findings(report: CheckReport, task: Task, most: int) -> None:
    """The splits, then a table of what was found, then up to `most` examples of each kind."""
    from segcli.data.checking.check import KINDS

    counted = "objects" if task in OBJECT_TASKS else "segments"  # stuff is counted too, once an image
    numbers = ("images", "unusable", counted, "empty", "void")
    rows = [
        [s.name, f"{s.images:,}", f"{s.unusable:,}", f"{s.objects:,}", f"{s.empty:,}", f"{s.void:.1%}"]
        for s in report.splits
    ]
    console.table([Column("split"), *(Column(name, numeric=True) for name in numbers)], rows)
    if crowds := sum(split.crowds for split in report.splits):
        console.result(f"{crowds:,} of these objects are crowd regions, which `segcli data stats` counts apart")
    if report.advice:
        console.result(f"segcli train: {report.advice}")
    if not report.findings:
        console.result("no problems found")
        return
    console.result()
    rows = []
    for kind in dict.fromkeys(finding.kind for finding in report.findings):
        found = report.of_kind(kind)
        files = len({finding.file for finding in found if finding.file})
        mend = KINDS[kind].mend or ("nothing: a remark" if KINDS[kind].is_remark else "nothing: yours to decide")
        rows.append([kind, str(_count(found)), str(files or "-"), KINDS[kind].what, mend])
    headings = [Column("found"), Column("times", numeric=True), Column("images", numeric=True)]
    console.table([*headings, Column("what"), Column("what --fix does")], rows)
    for kind in dict.fromkeys(finding.kind for finding in report.findings):
        console.result()
        console.result(f"{kind}: {KINDS[kind].what}")
        lines = _overlaps(report.of_kind(kind)) if kind == "overlap" else [f.message for f in report.of_kind(kind)]
        for line in lines[:most]:
            console.result(f"  {line}")
        if len(lines) > most:
            console.result(f"  … and {len(lines) - most:,} more (--json lists all)")
    console.result()
    console.result(_verdict(report))


def _verdict(report: CheckReport) -> str:
    """Whether one can train on it, in a sentence."""
    from segcli.data.checking.check import KINDS

    images, unusable = sum(s.images for s in report.splits), sum(s.unusable for s in report.splits)
    rows = _count([*report.of_kind("bad-row"), *report.of_kind("no-mask")])
    lost = [some(unusable, "image")] * bool(unusable) + [some(rows, "annotation")] * bool(rows)
    if not report.faults:
        return f"no faults: {some(images, 'image')} to work with"
    if not lost:
        text = f"every image can be used ({images:,})"
    else:
        text = f"{' and '.join(lost)} cannot be used and are left out; {some(images - unusable, 'image')} can"
    mended = any(KINDS[finding.kind].mend for finding in report.faults)
    return text + ("; --fix OUT writes a copy without the faults that can be mended" if mended else "")


def _count(found: Sequence[Finding]) -> int:
    """How often: findings of one image each count once, those of a whole file as often as they say."""
    return sum(1 if finding.file or finding.classes else finding.amount for finding in found)


def _overlaps(found: Sequence[Finding]) -> list[str]:
    """A line a pair of classes: how many pixels, in which files."""
    pairs: dict[tuple[str, ...], list[Finding]] = {}
    for finding in found:
        pairs.setdefault(finding.classes, []).append(finding)
    lines = []
    for classes, of_pair in sorted(pairs.items(), key=lambda item: -sum(f.amount for f in item[1])):
        worst = max(of_pair, key=lambda finding: finding.amount)
        pixels = sum(finding.amount for finding in of_pair)
        lines.append(
            f"{' and '.join(classes)}: {pixels:,} pixels in {some(len(of_pair), 'image')}, most in {worst.file}"
        )
    return lines


def show_rest(say: Console, rest: Sequence[Finding]) -> None:
    """What a cleaned copy still has."""
    kinds = dict.fromkeys(finding.kind for finding in rest)
    if kinds:
        counts = ", ".join(f"{sum(f.kind == kind for f in rest):,} {kind}" for kind in kinds)
        say.note(f"left as it is, for you to judge: {counts}")


def show_written(say: Console, written: Written, out: Path) -> None:
    """Where it is, how the images got there, and what was lost."""
    for problem in written.problems[:5]:
        console.error(f"left out: {problem.message}")
    if len(written.problems) > 5:
        console.error(f"left out: {len(written.problems) - 5} more images that cannot be read")
    for note in written.notes:
        say.note(note)
    for heading, counts in (("lost: ", written.losses), ("", written.changes)):
        for what, (amount, images) in counts.items():
            say.note(f"{heading}{what}: {amount:,} (in {some(images, 'image')})")
    if written.linked:
        say.note(f"{some(written.linked, 'image')} as hard links, which share their bytes with the originals")
    if written.copied and written.for_editing:
        say.note(f"{some(written.copied, 'image')} copied, as labelling tools may save over them")
    elif written.copied:
        say.note(f"{some(written.copied, 'image')} copied: the file system has no hard links from there to here")
    splits = [f"{number:,} {split}" if split != "all" else f"{number:,}" for split, number in written.images.items()]
    say.say(f"{out}: {', '.join(splits)} images")


def show_stats(splits: Sequence[SplitStats]) -> None:
    """A table of sizes and counts, a column a split, and a table of classes."""
    from segcli.data.checking.stats import by_size, levels

    rows: list[list[str]] = []

    def row(name: str, values: Sequence[object]) -> None:
        rows.append([name, *map(str, values)])

    def spread(values: Any) -> str:
        found = levels(values)
        return "-" if found is None else f"{found['least']:,.0f} … {found['median']:,.0f} … {found['most']:,.0f}"

    row("images", [f"{len(s.sizes):,}" for s in splits])
    if any(s.unusable for s in splits):
        row("unusable", [f"{s.unusable:,}" for s in splits])
    if any(s.paged for s in splits):
        row("of several pages (first taken)", [f"{s.paged:,}" for s in splits])
    row("width", [spread(s.sizes[:, 1]) for s in splits])
    row("height", [spread(s.sizes[:, 0]) for s in splits])
    if any(s.objects.any() for s in splits):
        row("objects (things)", [f"{int(s.objects.sum()):,}" for s in splits])
        row("objects per image", [spread(s.objects) for s in splits])
    row("classes per image", [spread(s.present) for s in splits])
    row("images without any", [f"{int((s.present == 0).sum()):,}" for s in splits])
    row("void", [f"{s.void:.1%}" for s in splits])
    if any(len(s.areas) for s in splits):
        row("pixels of a thing", [spread(s.areas) for s in splits])
        row("small, medium, large", [", ".join(f"{n:,}" for n in by_size(s.areas)) for s in splits])
    console.table([Column("least … median … most"), *(Column(s.name, numeric=True) for s in splits)], rows)
    console.result()
    columns, table, absent = _classes({s.name: s.classes for s in splits})
    console.table(columns, table)
    if absent:
        rest = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        console.result(f"in no image: {', '.join(absent[:NAMED])}{rest} (--json lists all)")


class _Counted(Protocol):
    """A class in a split, counted in whatever way. objects: of things; 0 of everything else."""

    @property
    def label(self) -> Label: ...

    @property
    def images(self) -> int: ...

    @property
    def objects(self) -> int: ...

    @property
    def share(self) -> float: ...


def _classes(splits: Mapping[str, Sequence[_Counted]]) -> tuple[list[Column], list[list[str]], list[str]]:
    """(columns, a row for each class that is in some image, names of the others). splits: the same classes in each."""
    mixed = len({c.label.isthing for classes in splits.values() for c in classes}) > 1
    columns = [Column("class"), Column("id", numeric=True), *([Column("kind")] if mixed else [])]
    for split in splits:
        columns += [Column(f"{split} {what}", numeric=True) for what in ("images", "objects", "pixels")]
    rows, absent = [], []
    for of_class in zip(*splits.values(), strict=True):
        label = of_class[0].label
        if not any(c.images for c in of_class):
            absent.append(label.name)
            continue
        row = [label.name, str(label.id), *(["thing" if label.isthing else "stuff"] if mixed else [])]
        for c in of_class:
            row += [f"{c.images:,}", f"{c.objects:,}" if c.objects else "-", f"{c.share:.2%}"]
        rows.append(row)
    return columns, rows, absent


def show_training(say: Console, info: DatasetInfo, train: SplitReport) -> None:
    """What there is to learn from, about the work: a line of totals, and the first classes of the table of `stats`."""
    if say.quiet:
        return
    counted = "objects" if info.task in OBJECT_TASKS else "segments"
    crowds = f"; {train.crowds:,} crowd regions are not used for training" if train.crowds else ""
    say.note(
        f"for training: {train.images:,} images, {train.objects:,} {counted}, {train.empty:,} images without any, "
        f"{train.void_share:.1%} void{crowds}"
    )
    once = [info.task == "semantic" or not count.label.isthing for count in train.classes]
    counts = [replace(count, objects=0) if one else count for count, one in zip(train.classes, once, strict=True)]
    columns, rows, _ = _classes({train.name: counts})
    console.table(columns, rows[:NAMED], stderr=True)
    if len(rows) > NAMED:
        say.note(f"and {len(rows) - NAMED} more (segcli data stats {info.root})")
