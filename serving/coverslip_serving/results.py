"""Results of a client's calls."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coverslip.pipeline import Binding, Carried, Change, Extraction
from coverslip.record import Record
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.messages import report_figures


@dataclass(frozen=True)
class EmbedResult:
    """A stego instance from a gateway.

    Attributes
    ----------
    label : str
        The caller's label of the instance, in a series.
    instance : bytes
        The DICOM file; empty if it was written to a file.
    report : coverslip.v1.EmbedReport
    """

    label: str
    instance: bytes
    report: pb.EmbedReport

    def figures(self) -> dict[str, object]:
        """The report as ``coverslip embed --json`` prints it."""
        return report_figures(self.report)


@dataclass(frozen=True)
class ExtractResult:
    """A sealed record from a gateway, opened by the client.

    Attributes
    ----------
    label : str
        The caller's label of the instance, in a series.
    extraction : Extraction
        What `coverslip.pipeline.restore` needs, beside the instance.
    """

    label: str
    extraction: Extraction = field(repr=False)

    @property
    def record(self) -> Record:
        """The record."""
        return self.extraction.record

    @property
    def sealed(self) -> bytes:
        """The sealed frame from the gateway; empty if the sealed header part alone held it."""
        return self.extraction.found.sealed

    @property
    def carried(self) -> Carried:
        """Where the record was found."""
        return self.extraction.carried

    @property
    def binding(self) -> Binding:
        """Whether the record belongs to the instance, as this client found."""
        return self.extraction.binding

    @property
    def changes(self) -> tuple[Change, ...]:
        """What shows that the instance is not as embedding left it."""
        return self.extraction.changes

    @property
    def frame(self) -> int:
        """Frame of the instance that it was read from, from 0; 0 for the header."""
        return self.extraction.frame

    @property
    def profile(self) -> str:
        """Name of the profile that it was read with; empty for the header."""
        return self.extraction.profile

    @property
    def agreement(self) -> float:
        """How far the known modules of the symbol stand out of chance, in standard deviations."""
        return self.extraction.found.agreement


@dataclass(frozen=True)
class OpenedRecord:
    """A record that the gateway opened.

    Attributes
    ----------
    attributes : dict
        In the DICOM JSON model (PS3.18, annex F).
    restored : bytes
        The restored DICOM file; empty unless it was asked for.
    carried : Carried
        Where the record was found.
    binding : Binding or None
        Whether the record belongs to the instance; None if the gateway is too old to say.
    changes : tuple of str
        What shows that the instance is not as embedding left it: values of
        `coverslip.pipeline.Change`.
    restored_as : str
        What the restored file is: a value of `coverslip.pipeline.RestoredAs`.
    not_original_because : tuple of str
        Why it is not the original: values of `coverslip.pipeline.Missing`.
    refused : tuple of str
        Attributes that the seal held and that may not come back.
    """

    attributes: dict[str, dict[str, object]] = field(repr=False)
    restored: bytes = field(repr=False)
    carried: Carried = Carried.PIXELS
    binding: Binding | None = None
    changes: tuple[str, ...] = ()
    restored_as: str = ""
    not_original_because: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outlines:
    """The outlined body in every frame.

    Attributes
    ----------
    masks : uint8 [F, H, W]
        1 = body.
    scores : float32 [F]
        Best detection's score, 0 to 1; 0 where no body was found.
    """

    masks: NDArray[np.uint8]
    scores: NDArray[np.float32]
