"""What training refuses to do, one type per cause, on top of `coverslip.errors`."""

from __future__ import annotations

from coverslip.errors import CoverslipError


class AnnotationError(CoverslipError):
    """An annotation cannot be read as what it claims to be."""

    code = "bad-annotation"


class AnnotationSizeError(CoverslipError):
    """An annotation was made for an image of another size.

    Parameters
    ----------
    found, expected : (int, int)
        Rows and columns.
    """

    code = "wrong-size"

    def __init__(self, found: tuple[int, int], expected: tuple[int, int]) -> None:
        super().__init__(
            f"the mask is {found[0]} x {found[1]} where its image is {expected[0]} x "
            f"{expected[1]} (rows x columns): "
            "annotate the image at its own size"
        )


class EmptyMaskError(CoverslipError):
    """An annotation outlines nothing."""

    code = "empty-mask"


class RejectedSliceError(CoverslipError):
    """Whoever checked the annotation said that the slice must not be used."""

    code = "rejected"


class SeveralAnnotationsError(CoverslipError):
    """More than one annotation claims the same image."""

    code = "several-annotations"


class TrainingTableError(CoverslipError):
    """The table of slices is missing a column, or has a patient in two splits."""

    code = "training-table"


class ExperimentError(CoverslipError):
    """A training experiment's configuration is not one."""

    code = "experiment"


class CheckpointError(CoverslipError):
    """A checkpoint is not there, or holds another network."""

    code = "checkpoint"


class RecordsMissingError(CoverslipError):
    """There are no records to train on."""

    code = "records-missing"


class DivergedError(CoverslipError):
    """A training's loss left all bounds."""

    code = "diverged"
