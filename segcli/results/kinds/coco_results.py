"""`--save coco`: COCO's results format, one file for all photos."""

from __future__ import annotations

from pathlib import Path

from segcli.results.kinds.kind import Answer, SaveKind, SaveRun
from segcli.results.ledger import CocoResults


class CocoResultsJson(SaveKind):
    """predictions.json, with the instances of every score, as an evaluator wants them."""

    name = "coco"
    about = "COCO results for an evaluator"
    tasks = ("panoptic", "instance", "detect")  # semantic results have no scores
    files = ("predictions.json",)

    def __init__(self, run: SaveRun) -> None:
        super().__init__(run)
        self._results = CocoResults(run.file(self.files[0]), **run.ledger_options())
        self.ledgers = (self._results,)

    def write(self, answer: Answer, path: Path | None) -> None:
        image_id = answer.photo.image_id
        if image_id not in self._results.done:
            self._results.add(image_id, answer.unthresholded.to_coco(image_id))
