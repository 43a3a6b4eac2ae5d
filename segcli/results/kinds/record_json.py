"""`--save json`: a photo's record, which says what was found, by which model and how."""

from __future__ import annotations

import os
from pathlib import Path

from segcli.files.writing import write_file
from segcli.results.kinds.kind import Answer, SaveKind


class RecordJson(SaveKind):
    """One JSON file per photo; see `segcli.results.record`."""

    name = "json"
    about = "classes, scores, areas and boxes"
    suffix = ".json"
    comes_last = True

    def write(self, answer: Answer, path: Path | None) -> None:
        from segcli.results.record import image_record, record_text

        assert path is not None
        facts = {**_place_of(answer.photo.path, path), **self.run.facts}
        record = image_record(answer.photo.file_name, answer.segments, facts, answer.timings)
        write_file(path, record_text(record).encode())


def _place_of(photo: Path, record: Path) -> dict[str, str]:
    """{"photo": its path from the folder of its record}, by which it is found again when both are moved together;
    nothing for a photo that came on stdin."""
    if not os.path.isfile(photo):
        return {}
    try:
        place = Path(os.path.relpath(photo.resolve(), record.parent.resolve()))
    except ValueError:  # another drive
        place = photo.resolve()
    return {"photo": place.as_posix()}
