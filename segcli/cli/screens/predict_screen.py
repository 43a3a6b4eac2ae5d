"""What `segcli predict` says about each image and about the whole run."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcli import console
from segcli.console import Column, Console

if TYPE_CHECKING:
    from segcli.inference.pipeline import ImageReport
    from segcli.inference.planning import Work
    from segcli.inference.sources import Source
    from segcli.results.plan import Photo

TABLES_UP_TO = 3  # images in a run; more get one line each
LONGEST_TABLE = 40
SINGLY_UP_TO = 5  # objects of a class; more share a row
_MOST_CLASSES = 6  # that the end of a run counts
STAGES = ("decode", "model", "post", "write")


@dataclass
class RunReport:
    """Shows images as they are done and remembers only what the end needs (a number and a name, not the results)."""

    console: Console
    out: Path | None  # None if nothing is written
    threshold: float | None  # the score below which segments were not shown; None for semantic results
    many: bool  # whether the run has too many images for a table each
    json: bool = False
    expected: int = 0  # images to predict
    skipped: int = 0  # images that were done before
    done: int = 0
    failed: list[str] = field(default_factory=list)
    timings: list[dict[str, float]] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)  # objects by class, over all images
    covered: int = 0  # of the instances that tables count, those that better ones cover for the most part

    def skip(self, images: Sequence[tuple[Source, Photo]], work: Work) -> None:
        """Images that were done before: with --json each gets its line too, from the record that was written then."""
        self.skipped += len(images)
        if not self.json:
            return
        from segcli.errors import InputError
        from segcli.files.json_file import read_object
        from segcli.results.writer import photo_targets

        for source, photo in images:
            targets = photo_targets(work.out, work.kinds, photo)
            try:
                record = read_object(targets["json"]) if "json" in targets else {}
            except InputError:
                record = {}
            facts = {"path": str(source), "ok": True, "skipped": True}
            console.json_line(facts | _without_classes(record) | {"outputs": [str(path) for path in targets.values()]})

    def show(self, report: ImageReport) -> None:
        """One image: a table, a line, a JSON line, or an error."""
        if self.json:
            console.json_line(as_json(report))
        if report.error is not None:
            self.failed.append(report.error)
            console.error(report.error)
            return
        self.done += 1
        self.timings.append(asdict(report.timings))
        if report.pages > 1:
            self.console.note(f"{report.source}: {report.pages} pages, only the first is used; --pages all uses each")
        segments = report.record["segments"]
        self.found.update(segment["category_name"] for segment in segments)
        self.covered += report.covered
        if self.json:
            return
        if not segments:
            self.console.say(f"{report.source}  {_size(report)}  {self._nothing(report)}")
        elif self.many:
            self.console.say(f"{report.source}  {_size(report)}  {_counts(segments)}  {_total(report):.0f} ms")
        else:
            self._table(report, segments)

    def _table(self, report: ImageReport, segments: list[dict[str, Any]]) -> None:
        """A row a segment; of a class with many, one row for all of them."""
        pixels = report.record["size"]["width"] * report.record["size"]["height"]
        counts = Counter(segment["category_name"] for segment in segments)
        groups: dict[Any, list[dict[str, Any]]] = {}
        for number, segment in enumerate(segments):
            name = segment["category_name"]
            groups.setdefault(name if counts[name] > SINGLY_UP_TO else number, []).append(segment)
        columns = [Column("class"), Column("pixels", numeric=True), Column("share", numeric=True)]
        rows = []
        for group in groups.values():
            name, area = group[0]["category_name"], sum(segment["area"] for segment in group)
            rows.append([_times(len(group), name), f"{area:,}", _share(area / pixels)])
        if self.threshold is not None:  # semantic results have no scores
            columns.insert(1, Column("score", numeric=True))
            for row, group in zip(rows, groups.values(), strict=True):
                row.insert(1, "–".join(dict.fromkeys(f"{segment['score']:.2f}" for segment in (group[-1], group[0]))))
        self.console.table(columns, rows[:LONGEST_TABLE], title=f"{report.source}  {_size(report)}")
        if len(rows) > LONGEST_TABLE:
            self.console.say(f"… and {len(rows) - LONGEST_TABLE} more")
        if self.threshold is not None and len(segments) > 1:
            self.console.say(_counts(segments))

    def _nothing(self, report: ImageReport) -> str:
        best = report.record["best_score"]
        if self.threshold is None or best is None:
            return "nothing found"
        if best < self.threshold:
            return f"nothing found above --threshold {self.threshold:g}; the best score was {best:.2f}"
        if only := report.record.get("only"):
            return f"nothing found of {', '.join(only)}"
        return f"nothing found: the best class score was {best:.2f}, but its mask was too uncertain"

    def finish(self, seconds: float) -> None:
        """The summary, however the run ended."""
        rest = self.expected - self.done - len(self.failed)
        if self.done:
            count = f"{self.done} of {self.expected}" if self.done < self.expected else str(self.done)
            skipped = f", {self.skipped} skipped," if self.skipped else ""
            plural = "" if self.expected == 1 else "s"
            where = f"; results in {self.out}" if self.out else ""
            found = ""
            if self.threshold is not None and self.done > 1:
                most = self.found.most_common(_MOST_CLASSES)
                more = len(self.found) - len(most)
                found = f": {_listed(most) or 'nothing found'}{f' and {more} more classes' if more else ''}"
            if not rest:
                self.console.note(f"{count} image{plural}{skipped} in {seconds:.1f} s{found}{where}")
        elif self.skipped and not self.expected:
            self.console.note("nothing left to do: all results are there")
        if rest and self.expected > 1:
            self.console.note(
                f"stopped after {seconds:.1f} s; what is written is complete, --skip-existing continues here"
                if self.out
                else f"stopped after {seconds:.1f} s"
            )
        if self.covered:
            self.console.note(
                f"of these, {self.covered} are covered by better ones for the most part; the tables count them, "
                "--overlap-threshold 0.5 leaves them out"
            )
        if self.failed and self.expected > TABLES_UP_TO:
            from segcli.results.shards import FAILURES

            listed = f", listed in {self.out / FAILURES}" if self.out and self.done else ""
            console.error(f"{len(self.failed)} of {self.expected} images failed{listed}")

    def profile(self, load: float) -> None:
        """Milliseconds of every stage, on stderr.

        load: milliseconds until the model was ready.
        """
        rows: list[tuple[str, ...]] = [("load", f"{load:.0f}", "", f"{load:.0f}")]
        for stage in STAGES if self.timings else ():
            values = [timing[stage] for timing in self.timings]
            rows.append((stage, f"{statistics.median(values):.0f}", f"{max(values):.0f}", f"{sum(values):.0f}"))
        columns = [Column("stage"), *(Column(name, numeric=True) for name in ("median ms", "max", "sum"))]
        console.table(columns, rows, stderr=True)


def as_json(report: ImageReport) -> dict[str, Any]:
    """The line that --json prints for an image: its record, where it came from and what was written."""
    if report.error is not None:
        return {"path": str(report.source), "ok": False, "error": report.error}
    outputs = [str(path) for path in report.outputs]
    return {"path": str(report.source), "ok": True, **_without_classes(report.record), "outputs": outputs}


def _without_classes(record: dict[str, Any]) -> dict[str, Any]:
    """A record for a line of many: the model's classes, which are the same on each, stay in the file of `--save json`;
    the segments name theirs."""
    return {key: value for key, value in record.items() if key != "classes"}


def _counts(segments: list[dict[str, Any]]) -> str:
    return _listed(Counter(segment["category_name"] for segment in segments).most_common())


def _listed(counts: list[tuple[str, int]]) -> str:
    return ", ".join(_times(count, name) for name, count in counts)


def _times(count: int, name: str) -> str:
    """A number of objects of a class, whose name has no plural that is known."""
    return name if count == 1 else f"{count:,} × {name}"


def _share(share: float) -> str:
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _size(report: ImageReport) -> str:
    size = report.record["size"]
    return f"{size['width']}×{size['height']}"


def _total(report: ImageReport) -> float:
    return sum(asdict(report.timings).values())
