"""Write a bill of materials: what an environment has installed, and the released model.

The packages are those that cyclonedx-py finds in the environment and that Coverslip depends on.
To them come the model, each of its files with its SHA-256, and the data that it was trained and
measured on, with the licences that the data's own table states; the images themselves are not
distributed. The same environment and the same model give the same bytes: there is no time and no
serial number in it, unless ``SOURCE_DATE_EPOCH`` gives a time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = SchemaVersion.V1_6

Json = dict[str, Any]


def environment_bom(environment: Path) -> Json:
    """What cyclonedx-py says about a virtual environment, with Coverslip as its root.

    Raises
    ------
    subprocess.CalledProcessError
        It is no environment, or cyclonedx-py failed; its message is on standard error.
    """
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    command += ["--of", "JSON", "--sv", SCHEMA.to_version(), "--short-PURLs"]
    command += ["--no-validate"]  # the bill is validated once, with the model in it
    command += ["--pyproject", str(ROOT / "pyproject.toml"), str(environment)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603
    bom: Json = json.loads(done.stdout)
    return bom


def keep_dependencies(bom: Json) -> None:
    """Leave out packages that Coverslip does not depend on, such as pip."""
    edges = {one["ref"]: one.get("dependsOn", []) for one in bom["dependencies"]}
    waiting = [bom["metadata"]["component"]["bom-ref"]]
    kept: set[str] = set()
    while waiting:
        ref = waiting.pop()
        if ref not in kept:
            kept.add(ref)
            waiting += edges.get(ref, [])
    bom["components"] = [one for one in bom["components"] if one["bom-ref"] in kept]
    bom["dependencies"] = [one for one in bom["dependencies"] if one["ref"] in kept]


def file_component(path: Path, models: Path) -> Json:
    """A file of the model with its hash; its name is the path from the folder of the models."""
    return {
        "type": "file",
        "name": path.relative_to(models).as_posix(),
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}],
    }


def data_components(figures: Json) -> list[Json]:
    """The data of training and measurement, one component for each licence.

    Parameters
    ----------
    figures : dict
        ``metrics.json`` of the model.
    """
    split = figures["split"]
    return [
        {
            "type": "data",
            "bom-ref": f"data-{number:02d}",
            "name": f"CT and MR slices, {source['licence']}",
            "description": (
                "Public, de-identified slices; not distributed. The licence is what the data's own "
                "table states, with its own doubts."
            ),
            "licenses": [{"license": {"name": source["licence"]}}],
            "properties": [
                {"name": "coverslip:slices:train", "value": str(source["train"])},
                {"name": f"coverslip:slices:{split}", "value": str(source["measured"])},
                {"name": "coverslip:patients", "value": str(source["patients"])},
            ],
        }
        for number, source in enumerate(figures["data"]["licences"], 1)
    ]


def model_components(models: Path) -> list[Json]:
    """The released model with all files of its folder, and the data behind it.

    Parameters
    ----------
    models : Path
        A folder with ``model.json`` and ``metrics.json``.
    """
    about = json.loads((models / "model.json").read_text())
    figures = json.loads((models / "metrics.json").read_text())
    data = data_components(figures)
    train, measured = figures["data"]["train"], figures["data"]["measured"]
    model: Json = {
        "type": "machine-learning-model",
        "bom-ref": f"model-{about['name']}@{about['version']}",
        "name": about["name"],
        "version": str(about["version"]),
        "description": (
            "Outlines the body in a CT or MR slice. Trained from scratch on "
            f"{train['slices']} slices of {train['patients']} patients, measured on "
            f"{measured['slices']} slices of {measured['patients']} other patients."
        ),
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "externalReferences": [{"type": "model-card", "url": "models/README.md"}],
        "modelCard": {
            "modelParameters": {
                "task": "instance segmentation",
                "architectureFamily": "Mask R-CNN",
                "datasets": [{"ref": one["bom-ref"]} for one in data],
            },
        },
        "components": [
            file_component(path, models) for path in sorted(models.rglob("*")) if path.is_file()
        ],
    }
    return [model, *data]


def bill(environment: Path, models: Path) -> Json:
    """The bill of an environment, and of the model that Coverslip uses."""
    bom = environment_bom(environment)
    keep_dependencies(bom)
    model, *data = model_components(models)
    bom["components"] += [model, *data]
    root = bom["metadata"]["component"]["bom-ref"]
    for one in bom["dependencies"]:
        if one["ref"] == root:
            one["dependsOn"] = sorted([*one.get("dependsOn", []), model["bom-ref"]])
    bom["dependencies"] += [
        {"ref": model["bom-ref"], "dependsOn": [one["bom-ref"] for one in data]},
        *({"ref": one["bom-ref"]} for one in data),
    ]
    return bom


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the bill; 1 if it does not follow the schema of CycloneDX."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("environment", type=Path, help="a virtual environment with Coverslip in it")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--output", type=Path, default=ROOT / "build/sbom.cdx.json")
    options = parser.parse_args(arguments)
    bom = bill(options.environment, options.models)
    text = json.dumps(bom, indent=2, sort_keys=True) + "\n"
    error = JsonStrictValidator(SCHEMA).validate_str(text)
    if error is not None:
        print(error, file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text)
    print(f"{options.output}: {len(bom['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
