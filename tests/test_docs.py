"""What the documentation points at is there: files it links to, and names in the files it says they are in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_names_in_how_it_works_are_in_the_code() -> None:
    text = (ROOT / "docs/how-it-works.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "segcli").rglob("*.py"))
    names = {part for name in re.findall(r"`([A-Za-z_.]+)`", text) for part in name.split(".")} - {"facade", "segcli"}
    photos = {"astronaut", "chelsea"}
    assert sorted(name for name in names - photos if not re.search(rf"\b{name}\b", code)) == []
