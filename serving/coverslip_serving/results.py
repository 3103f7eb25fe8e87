"""Results of a client's calls."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coverslip.record import Record
from coverslip_serving._stubs import coverslip_pb2 as pb


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
        """The report as JSON holds it."""
        report, psnr = self.report, self.report.psnr
        names = (field.name for field in report.DESCRIPTOR.fields)
        figures: dict[str, object] = {name: getattr(report, name) for name in names}
        figures["psnr"] = {
            field.name: getattr(psnr, field.name) for field in psnr.DESCRIPTOR.fields
        }
        return figures | {"dropped": list(report.dropped), "notes": list(report.notes)}


@dataclass(frozen=True)
class ExtractResult:
    """A sealed record from a gateway, opened by the client.

    Attributes
    ----------
    label : str
        The caller's label of the instance, in a series.
    record : Record
    sealed : bytes
        The sealed frame as the gateway sent it.
    frame : int
        Frame of the instance that it was read from, from 0.
    profile : str
        Name of the profile that it was read with.
    agreement : float
        How far the known modules of the symbol stand out of chance, in standard deviations.
    """

    label: str
    record: Record
    sealed: bytes
    frame: int
    profile: str
    agreement: float


@dataclass(frozen=True)
class OpenedRecord:
    """A record that the gateway opened.

    Attributes
    ----------
    attributes : dict
        In the DICOM JSON model (PS3.18, annex F).
    restored : bytes
        The DICOM file with its identity back in the header; empty unless it was asked for.
    """

    attributes: dict[str, dict[str, object]] = field(repr=False)
    restored: bytes = field(repr=False)


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
