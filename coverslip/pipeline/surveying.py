"""Says what fits in an instance before anything is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from coverslip import record as records
from coverslip.crypto.keys import Recipient
from coverslip.crypto.seal import seal
from coverslip.deidentification import header
from coverslip.dicom.instance import Instance
from coverslip.engine import Engine
from coverslip.errors import (
    CoverslipError,
)
from coverslip.pipeline.embedding import EmbedOptions, embed
from coverslip.pipeline.planes import engine_planes
from coverslip.pipeline.reading import uid_key
from coverslip.qr import symbol as symbols
from coverslip.scheme.carriers import allowed_blocks
from coverslip.scheme.dct import COEFFICIENTS
from coverslip.scheme.profiles import PROFILES, Profile


@dataclass(frozen=True)
class Survey:
    """What there is to work with in an instance, before anything is embedded.

    Attributes
    ----------
    instance : Instance
    mask : uint8 [H, W]
        Body of the first frame.
    allowed : bool [Hb, Wb]
        Blocks of the first frame that may carry.
    recorded, record_bytes, sealed_bytes, modules : int
    """

    instance: Instance
    mask: NDArray[np.uint8]
    allowed: NDArray[np.bool_]
    recorded: int
    record_bytes: int
    sealed_bytes: int
    modules: int

    def summary(self) -> dict[str, object]:
        """The figures, ready for JSON."""
        frames, rows, columns = self.instance.frames.shape
        return {
            "frames": frames,
            "rows": rows,
            "columns": columns,
            "legal": list(self.instance.legal),
            "transfer_syntax": UID(self.instance.transfer_syntax).name,
            "body": float(np.mean(self.mask)),
            "background": float(self.allowed.sum()) * COEFFICIENTS / (rows * columns),
            "recorded": self.recorded,
            "record_bytes": self.record_bytes,
            "sealed_bytes": self.sealed_bytes,
            "modules": self.modules,
            "notes": list(self.instance.notes),
        }


def survey(
    instance: Instance, recipient: Recipient, engine: Engine, use_padding: bool = False
) -> Survey:
    """Outline the first frame's body, count what may carry, and weigh the record; writes
    nothing.
    """
    _, record, _ = header.deidentify(instance.dataset, uid_key(recipient), allow_burned_in=True)
    encoded = records.encode(record)
    sealed = seal(encoded, recipient.public)
    planes = engine_planes(instance, use_padding)
    mask = engine.segment(planes.pixels[:1]).mask[0]
    allowed = allowed_blocks(
        planes.pixels[0], mask, planes.legal, planes.padding, PROFILES["default"].margin
    )
    side = len(symbols.draw(sealed))
    return Survey(instance, mask, allowed, len(record), len(encoded), len(sealed), side * side)


def would_fit(
    instance: Instance,
    recipient: Recipient,
    engine: Engine,
    profile: Profile,
    use_padding: bool = False,
) -> dict[str, object]:
    """Embed into memory and say how it went: ``fits`` with its figures, or the reason why not."""
    try:
        report = embed(
            instance, recipient, engine, EmbedOptions(profile, use_padding=use_padding)
        ).report
    except CoverslipError as error:
        return {"fits": False, "code": error.code, "message": str(error)}
    return {
        "fits": True,
        "votes_per_module": report.votes_per_module,
        "module_errors": report.module_errors,
        "carriers": report.carriers,
        "payload": report.payload,
        "psnr": asdict(report.psnr),
    }
