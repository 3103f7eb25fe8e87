"""Finds the released model."""

from __future__ import annotations

import os
import sysconfig
from enum import Enum
from pathlib import Path

from coverslip.errors import ModelMissingError

ENVIRONMENT = "COVERSLIP_MODELS"
"""Environment variable with a folder to take the model from instead."""


class ModelKind(str, Enum):
    """The two forms of one model."""

    LITERT = "litert"
    TENSORFLOW = "tensorflow"


def model_folders() -> list[Path]:
    """Folders to search for the model, in order.

    The one named in the environment alone; else the source tree's, then the installed one.
    """
    folder = os.environ.get(ENVIRONMENT)
    if folder:
        return [Path(folder)]
    installed = Path(sysconfig.get_path("data")) / "share" / "coverslip" / "models"
    return [Path(__file__).resolve().parent.parent / "models", installed]


def latest_version(folder: Path) -> Path | None:
    """The SavedModel with the highest version in a TensorFlow Serving model folder, or None."""
    versions = [path for path in folder.glob("[0-9]*") if path.name.isdigit() and path.is_dir()]
    return max(versions, key=lambda path: int(path.name), default=None)


def find_model(kind: ModelKind) -> Path:
    """Find the released model.

    Parameters
    ----------
    kind : ModelKind

    Returns
    -------
    Path
        The .tflite file, or the folder of the SavedModel with the highest version.

    Raises
    ------
    ModelMissingError
        None of `model_folders` holds it.
    """
    folders = model_folders()
    for folder in folders:
        model = (
            folder / "coverslip.tflite"
            if kind is ModelKind.LITERT
            else latest_version(folder / "coverslip")
        )
        if model is not None and model.exists():
            return model
    places = " or ".join(str(folder) for folder in folders)
    raise ModelMissingError(
        f"there is no {kind.value} model in {places}: install the released models there, or set "
        f"{ENVIRONMENT} to their folder"
    )
