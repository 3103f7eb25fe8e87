"""Says what fits in an object before anything is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from coverslip import record as records
from coverslip.crypto.keys import Recipient
from coverslip.crypto.seal import OVERHEAD, seal
from coverslip.deidentification import header
from coverslip.deidentification.mark import Mark, read_mark
from coverslip.dicom.instance import Instance
from coverslip.dicom.objects import DicomObject
from coverslip.eligibility import BurnedIn, burned_in
from coverslip.engine import Engine
from coverslip.errors import CoverslipError, EngineError, RecordTooLargeError
from coverslip.pipeline.binding import (
    DIGEST_BYTES,
    BindingSeal,
    dark_air,
    measure_brightness,
    pack,
)
from coverslip.pipeline.embedding import EmbedOptions, as_object, embed, narrowed_planes
from coverslip.pipeline.reading import uid_key
from coverslip.pipeline.reports import EmbedReport
from coverslip.qr import symbol as symbols
from coverslip.scheme.carriers import allowed_blocks, margin_for
from coverslip.scheme.dct import COEFFICIENTS
from coverslip.scheme.profiles import PROFILES, Scheme


@dataclass(frozen=True)
class PixelSurvey:
    """What the pixels of an image have to offer.

    Attributes
    ----------
    mask : uint8 [H, W]
        Body of the first frame.
    allowed : bool [Hb, Wb]
        Blocks of the first frame that may carry.
    legal : (lo, hi)
        Lowest and highest value that can be stored.
    shape : (int, int, int)
        Frames, rows, columns.
    """

    mask: NDArray[np.uint8]
    allowed: NDArray[np.bool_]
    legal: tuple[int, int]
    shape: tuple[int, int, int]

    @property
    def body(self) -> float:
        """Part of the first frame that is body, 0 to 1."""
        return float(np.mean(self.mask))

    @property
    def background(self) -> float:
        """Part of the first frame that may carry, 0 to 1."""
        return float(self.allowed.sum()) * COEFFICIENTS / self.mask.size


@dataclass(frozen=True)
class Fit:
    """How an embedding would go.

    Attributes
    ----------
    report : EmbedReport or None
        None where it would be refused.
    error : CoverslipError or None
        Why it would be.
    """

    report: EmbedReport | None
    error: CoverslipError | None = None


@dataclass(frozen=True)
class Survey:
    """What there is to work with in an object, before anything is embedded.

    Attributes
    ----------
    source : DicomObject
    pixels : PixelSurvey or None
        None where the pixels cannot be read.
    burned_in : BurnedIn
    mark : Mark or None
        Of a file that carries a record already.
    recorded, record_bytes, sealed_bytes, modules : int
        ``modules`` is 0 where no symbol holds the record.
    fits : dict of str to Fit
        By profile.
    """

    source: DicomObject
    pixels: PixelSurvey | None
    burned_in: BurnedIn
    mark: Mark | None
    recorded: int
    record_bytes: int
    sealed_bytes: int
    modules: int
    fits: dict[str, Fit]

    def summary(self) -> dict[str, object]:
        """The figures, ready for JSON."""
        pixels = self.pixels
        frames, rows, columns = (0, 0, 0) if pixels is None else pixels.shape
        return {
            "frames": frames,
            "rows": rows,
            "columns": columns,
            "legal": [0, 0] if pixels is None else list(pixels.legal),
            "transfer_syntax": UID(self.source.transfer_syntax).name,
            "body": 0.0 if pixels is None else pixels.body,
            "background": 0.0 if pixels is None else pixels.background,
            "recorded": self.recorded,
            "record_bytes": self.record_bytes,
            "sealed_bytes": self.sealed_bytes,
            "modules": self.modules,
            "burned_in": self.burned_in.value,
            "carries": None if self.mark is None else self.mark.carried.value,
            "profiles": {name: fit_as_json(fit) for name, fit in self.fits.items()},
            "notes": list(self.source.notes),
        }


def fit_as_json(fit: Fit) -> dict[str, object]:
    """How an embedding would go, ready for JSON."""
    if fit.report is None:
        assert fit.error is not None
        return {"fits": False, "code": fit.error.code, "message": str(fit.error)}
    report = fit.report
    return {
        "fits": True,
        "carried": report.carried.value,
        "header_reasons": [asdict(reason) for reason in report.header_reasons],
        "votes_per_module": report.votes_per_module,
        "module_errors": report.module_errors,
        "carriers": report.carriers,
        "payload": report.payload,
        "psnr": asdict(report.psnr),
    }


def survey(
    source: DicomObject | Instance, recipient: Recipient, engine: Engine, options: EmbedOptions
) -> Survey:
    """Outline the first frame's body, weigh the record, and try each profile in memory.

    Writes nothing. What embedding refuses is in `Survey.fits`; what cannot be read is raised as
    `coverslip.dicom.objects.read_object` does.
    """
    source = as_object(source)
    _, record, _ = header.deidentify(source.dataset, uid_key(recipient), allow_burned_in=True)
    encoded, modules = _weigh(record, recipient)
    keyed = [profile for profile in PROFILES.values() if profile.scheme is Scheme.KEYED]
    fits = {
        profile.name: would_fit(source, recipient, engine, replace(options, profile=profile))
        for profile in keyed
    }
    return Survey(
        source,
        None if source.image is None else _survey_pixels(source.image, engine, options),
        burned_in(source.dataset),
        read_mark(source.dataset),
        len(record),
        encoded,
        encoded + OVERHEAD if encoded else 0,
        modules,
        fits,
    )


def _weigh(record: records.Record, recipient: Recipient) -> tuple[int, int]:
    """Bytes of a bound record, and modules of its symbol; 0 for what is too large."""
    try:
        content = pack(BindingSeal(0, bytes(DIGEST_BYTES)), records.encode(record))
        return len(content), len(symbols.draw(seal(content, recipient.public))) ** 2
    except RecordTooLargeError:
        return 0, 0


def _survey_pixels(image: Instance, engine: Engine, options: EmbedOptions) -> PixelSurvey:
    brightness = measure_brightness(dark_air(image), image.legal[0])
    planes = narrowed_planes(image, brightness, brightness.level, options.use_padding)
    mask = engine.segment(planes.pixels[:1]).mask[0]
    margin = margin_for(PROFILES["default"].margin, *mask.shape)
    allowed = allowed_blocks(planes.pixels[0], mask, planes.legal, planes.padding, margin)
    return PixelSurvey(mask, allowed, image.legal, image.frames.shape)


def would_fit(
    source: DicomObject | Instance, recipient: Recipient, engine: Engine, options: EmbedOptions
) -> Fit:
    """Embed into memory and say how it went.

    Raises
    ------
    EngineError
        The engine's trouble says nothing about the image.
    """
    try:
        return Fit(embed(source, recipient, engine, options).report)
    except EngineError:
        raise
    except CoverslipError as error:
        return Fit(None, error)
