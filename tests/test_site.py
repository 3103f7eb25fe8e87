"""The documentation builds as a site that needs no other host."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from tests.paths import ROOT

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings_handlers.python")
pytestmark = pytest.mark.slow

LOADED_BY = {"src", "srcset", "poster", "data"}
"""Attributes by which an element loads what they name; of links, only ``<link>`` does."""


class Page(HTMLParser):
    """What a page loads, which names its elements have, and the classes that are in use."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.names: set[str] = set()
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in LOADED_BY or (tag == "link" and name == "href"):
                self.loads.append(value or "")
            elif name == "style":
                self.loads += addresses(value or "")
            elif name == "id":
                self.names.add(value or "")
            elif name == "class":
                self.classes |= set((value or "").split())


def addresses(style: str) -> list[str]:
    """What a style sheet loads, but for pictures that are part of it."""
    found = re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", style)
    return [one for pair in found for one in pair if one and not one.startswith("data:")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as ``make docs`` builds it: every warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {
        str(path.relative_to(site)): Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
    }


def test_no_page_loads_anything_from_another_host(pages):
    assert len(pages) > 20
    foreign = {
        (name, load)
        for name, page in pages.items()
        for load in page.loads
        if re.match(r"(?:[a-z]+:)?//", load)
    }
    assert not foreign


def test_no_style_sheet_loads_anything_from_another_host(site):
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        foreign = [one for one in addresses(sheet.read_text()) if re.match(r"(?:[a-z]+:)?//", one)]
        assert not foreign, sheet.name


def test_no_page_has_what_the_theme_would_fetch_a_program_for(pages):
    """The theme's script fetches Mermaid for a diagram, and figures of a repository's host."""
    for name, page in pages.items():
        assert not page.classes & {"mermaid", "md-source"}, name


def test_every_page_of_a_user_is_in_the_site(pages):
    users = {"desk.html", "console.html", "operator.html", "client.html"}
    assert users | {"index.html", "scheme.html", "limits.html", "model-card.html"} <= pages.keys()


@pytest.mark.parametrize(
    "name",
    [
        "coverslip.pipeline",
        "coverslip.pipeline.EmbedOptions",
        "coverslip.crypto.keys.Recipient.parse",
        "coverslip.engine.Engine",
        "coverslip_edge.engine.LiteRtEngine",
        "coverslip_graph.engine.TensorFlowEngine",
        "coverslip_serving.client.Client.embed",
        "coverslip_training.records",
    ],
)
def test_what_a_program_calls_is_in_the_reference(pages, name):
    assert any(name in page.names for file, page in pages.items() if file.startswith("api/"))


def test_every_module_is_in_the_reference(pages):
    names = set().union(*(page.names for page in pages.values()))
    for folder in (".", "edge", "graph", "serving", "training"):
        for path in (ROOT / folder).glob("coverslip*/**/*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if not any(part.startswith("_") for part in parts):
                assert ".".join(parts) in names


def test_links_that_leave_the_folder_lead_to_pages_of_the_site(site):
    training = (site / "training.html").read_text()
    assert 'href="model-card.html"' in training
    assert not [one for one in re.findall(r'href="([^"]*)"', training) if one.startswith("../")]
