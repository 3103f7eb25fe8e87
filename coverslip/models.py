"""Where the released model is."""

from __future__ import annotations

import os
import sysconfig
from enum import Enum
from pathlib import Path

from coverslip.errors import ModelMissingError

ENVIRONMENT = "COVERSLIP_MODELS"
"""Names a folder that holds the model, in place of the released one."""


class ModelKind(str, Enum):
    """The two forms of one model."""

    LITERT = "litert"
    TENSORFLOW = "tensorflow"


def model_folders() -> list[Path]:
    """Folders in which the model is looked for, first come first: the environment's alone, or the
    source tree's, then the installed one.
    """
    named = os.environ.get(ENVIRONMENT)
    if named:
        return [Path(named)]
    installed = Path(sysconfig.get_path("data")) / "share" / "coverslip" / "models"
    return [Path(__file__).resolve().parent.parent / "models", installed]


def latest_version(folder: Path) -> Path | None:
    """The SavedModel with the highest version in a TensorFlow Serving model folder, or None."""
    versions = [path for path in folder.glob("[0-9]*") if path.name.isdigit() and path.is_dir()]
    return max(versions, key=lambda path: int(path.name), default=None)


def find_model(kind: ModelKind) -> Path:
    """The released model.

    Parameters
    ----------
    kind : ModelKind
        Which of its forms.

    Returns
    -------
    Path
        The .tflite file, or the SavedModel's folder of the highest version.

    Raises
    ------
    ModelMissingError
        It is in none of `model_folders`.
    """
    folders = model_folders()
    for folder in folders:
        found = (
            folder / "coverslip.tflite"
            if kind is ModelKind.LITERT
            else latest_version(folder / "coverslip")
        )
        if found is not None and found.exists():
            return found
    places = " or ".join(str(folder) for folder in folders)
    raise ModelMissingError(
        f"there is no {kind.value} model in {places}: install the released models there, or set "
        f"{ENVIRONMENT} to their folder"
    )
