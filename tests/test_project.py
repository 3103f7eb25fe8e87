"""The files that a project is known by: present, well-formed, and in agreement with each other."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess

import pytest
import yaml
from packaging.requirements import Requirement

from tests.paths import ROOT

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    tomllib = pytest.importorskip("tomli")

APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the licence's text as the Apache Software Foundation publishes it."""

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def test_the_licence_is_the_one_that_the_project_declares():
    assert PROJECT["license"] == "Apache-2.0"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0


def test_every_tool_knows_every_package():
    tools = PYPROJECT["tool"]
    roots = tools["setuptools"]["packages"]["find"]["where"]
    packages = {
        path.parent.name for root in roots for path in (ROOT / root).glob("coverslip*/__init__.py")
    }
    assert len(packages) == 5
    assert set(tools["setuptools"]["package-data"]) == packages
    assert set(tools["coverage"]["run"]["source_pkgs"]) == packages
    assert set(tools["importlinter"]["root_packages"]) == packages
    assert set(re.findall(r" -p (coverslip\w*)", (ROOT / "Makefile").read_text())) == packages
    assert tools["ruff"]["src"] == roots
    assert tools["mypy"]["mypy_path"] == [*roots, "benchmarks"]


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Saidi",
        "Tibermacine",
        "Elhadad",
    ]
    assert paper["title"].lower() in " ".join((ROOT / "README.md").read_text().split()).lower()
    assert re.fullmatch(r"10\.\d{4}/\S+", paper["doi"])


def test_the_changelog_has_an_unreleased_part_and_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    first, *releases = re.findall(r"^## (\S+)(?: - \d{4}-\d\d-\d\d)?$", text, re.MULTILINE)
    assert first == "Unreleased"
    assert releases[0] == PROJECT["version"] and releases[-1] == "Models"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= kinds


def test_the_changelog_lists_every_model_up_to_the_released_one():
    rows = re.findall(r"^\| (\d+) \|.*`([0-9a-f]{12})`", (ROOT / "CHANGELOG.md").read_text(), re.M)
    released = json.loads((ROOT / "models/model.json").read_text())
    assert [int(version) for version, _ in rows] == list(range(1, released["version"] + 1))
    assert released["tflite_sha256"].startswith(rows[-1][1])


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name
)
def test_every_file_of_the_repository_host_parses(path):
    assert yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    "path",
    [p for p in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")) if p.name != "config.yml"],
    ids=lambda path: path.name,
)
def test_an_issue_form_has_what_the_host_asks_for(path):
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"].get("label") for field in fields if field["type"] != "markdown")
    names = [field["id"] for field in fields]
    assert len(set(names)) == len(names)


def test_updates_are_looked_for_where_the_dependencies_are():
    config = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())
    assert config["version"] == 2
    found = {}
    for update in config["updates"]:
        for folder in update.get("directories", [update.get("directory")]):
            found.setdefault(update["package-ecosystem"], set()).add(folder)
    assert found == {
        "pip": {"/", "/requirements"},
        "npm": {"/serving/examples/node"},
        "docker": {"/serving/deploy"},
        "github-actions": {"/"},
    }
    for folder in set().union(*found.values()):
        assert (ROOT / folder.lstrip("/")).is_dir()


def test_the_workflow_runs_what_a_change_must_pass():
    (workflow,) = (ROOT / ".github/workflows").glob("*.yml")
    (job,) = yaml.safe_load(workflow.read_text())["jobs"].values()
    assert job["steps"][-1] == {"run": "bash .ci/run"}
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_hooks_run_what_lint_runs():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (local,) = config["repos"]
    assert local["repo"] == "local"
    programs = {hook["entry"].split()[0] for hook in local["hooks"]}
    linters = re.findall(r"^\$\(VENV\)/bin/\S+|^\.venv/bin/\S+", _commands("lint"), re.MULTILINE)
    assert {one for one in linters if "python" not in one} == programs - {"make"}
    assert "mypy" in _commands("types")


def test_every_folder_has_an_owner_that_exists():
    lines = (ROOT / ".github/CODEOWNERS").read_text().splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    assert rules[0][0] == "*"
    for pattern, *owners in rules:
        assert owners and all(owner.startswith("@") for owner in owners)
        assert pattern == "*" or (ROOT / pattern.strip("/")).exists(), pattern


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_every_link_of_a_page_beside_the_readme_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_every_command_of_make_that_a_page_names_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "models/README.md"]:
        named = re.findall(r"(?:`|^    )make ([a-z][\w-]*)", page.read_text(), re.MULTILINE)
        assert set(named) <= targets, page.name


def test_help_names_every_target_that_exists():
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)$", text, re.MULTILINE)[1]
    targets = set(phony.replace("\\", " ").split()) - {"help"}
    assert targets == set(re.findall(r'@echo "make ([\w-]+)', text))


def _commands(*targets: str) -> str:
    """What make would run for these targets."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *targets], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_check_needs_no_npm_and_no_system_packages():
    commands = _commands("check")
    assert "pytest" in commands and "mypy" in commands and "ruff" in commands
    assert "npm " not in commands and "apt-get" not in commands


def test_all_tests_come_after_system_packages_and_the_wire_contract():
    commands = _commands("test")
    places = [commands.index(what) for what in ("apt-get install", "buf lint", "-m pytest")]
    assert places == sorted(places)


def test_constraints_hold_names_and_versions_and_nothing_else():
    lines = (ROOT / "requirements/constraints.txt").read_text().splitlines()
    for line in lines:
        pinned = Requirement(line)
        assert pinned.url is None
        assert [one.operator for one in pinned.specifier] == ["=="], line


def test_everything_that_is_installed_for_the_tests_is_pinned():
    pinned = {_plain(line) for line in _lines("requirements/constraints.txt")}
    for file in ("requirements/full.txt", "requirements/no-deps.txt"):
        assert {_plain(line) for line in _lines(file)} <= pinned, file
    extras = PROJECT["optional-dependencies"]
    for name in ("docs", "test"):
        assert {_plain(line) for line in extras[name]} <= pinned, name


def _lines(file: str) -> list[str]:
    lines = (ROOT / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _plain(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", Requirement(requirement).name).lower()
