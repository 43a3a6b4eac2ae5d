"""A format is a module that is there: what is said of formats follows from the modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from segcli.data.converting import writers
from segcli.data.converting.writing import Writer
from segcli.data.detect import detect
from segcli.data.formats import formats, names
from segcli.errors import UsageError


def test_every_module_is_a_whole_format() -> None:
    """With everything that `Format` lists, known writers, and others that it explains."""
    assert sorted(formats()) == names()
    for name, module in formats().items():
        assert module.SOUGHT, name
        assert module.WRITTEN_AS in writers.names()
        assert set(module.PLACES) <= {"images", "labels", "annotations"}
        assert set(module.EXPLAINS) <= set(names()) - {name}
        assert callable(module.probe)
        assert callable(module.load)


def test_every_writer_module_has_one_writer() -> None:
    assert {"coco", "voc", "yolo"} <= set(writers.names())
    assert all(issubclass(writers.writer_class(name), Writer) for name in writers.names())


def test_what_was_looked_for_is_every_format_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        detect(tmp_path)
    assert all(str(refused.value).count(module.SOUGHT.partition(" (")[0]) == 1 for module in formats().values())
