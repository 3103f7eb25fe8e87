"""Hooks of MkDocs: pages that lie outside docs/, links that leave it, and the API reference.

The README, the change log and the model card are read beside the code too, so they stay where they
are and become pages of the site under another name. Modules become pages of the API reference, one
for each package, so that a new module appears by itself.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "models/README.md": "model-card.md",
}
"""Pages outside docs/: the path in the repository, and the page of the site."""

PACKAGES = {
    "coverslip": ".",
    "coverslip_edge": "edge",
    "coverslip_graph": "graph",
    "coverslip_serving": "serving",
    "coverslip_training": "training",
}
"""Packages of the API reference, and the folders that hold them."""

_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")


def packages() -> dict[str, list[str]]:
    """Every package with the modules that belong to its page, itself first.

    Packages and modules whose name begins with an underscore are left out, and so are scripts.
    """
    found: dict[str, list[str]] = {}
    for top, folder in PACKAGES.items():
        for path in sorted((ROOT / folder / top).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            if any(part.startswith("_") for part in parts[:-1]) or (
                parts[-1].startswith("_") and not is_package
            ):
                continue
            page = found.setdefault(".".join(parts[:-1]), [])
            if is_package:
                page.insert(0, ".".join(parts[:-1]))
            else:
                page.append(".".join(parts))
    return found


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the API reference before the last entry of the navigation."""
    pages: dict[str, list[Any]] = {}
    for name in packages():
        pages.setdefault(name.partition(".")[0], []).append({name: f"api/{name}.md"})
    assert config.nav is not None
    config.nav.insert(-1, {"API reference": [{top: pages[top]} for top in PACKAGES]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file of docs/ holds."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    for package, modules in packages().items():
        text = "\n\n".join([f"# {package}", *(f"::: {module}" for module in modules)])
        files.append(File.generated(config, f"api/{package}.md", content=text + "\n"))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Point links at pages of the site; a link to a file that no page shows becomes its text."""
    here = page.file.src_uri
    source = next((path for path, name in PAGES.items() if name == here), f"docs/{here}")

    def replacement(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
        target = PAGES.get(path, path.removeprefix("docs/"))
        if path not in PAGES and not path.startswith("docs/"):
            return link["text"]
        if files.get_file_from_path(target) is None:
            return link[0]  # MkDocs reports it
        relative = posixpath.relpath(target, posixpath.dirname(here) or ".")
        return f"[{link['text']}]({relative}{link['anchor'] or ''})"

    parts = _FENCE.split(markdown)
    return "".join(
        part if part.startswith("```") else _LINK.sub(replacement, part) for part in parts
    )
