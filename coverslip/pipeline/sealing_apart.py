"""De-identifies and seals here what is embedded elsewhere, by somebody who is to see no identity.

What needs the original stays here: the judgement of its header, the binding to its pixels, and the
sealed header part, which is added to the stego file when it comes back.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from coverslip.crypto.keys import Recipient
from coverslip.deidentification.mark import Carried, Mark, read_mark, write_sealed_part
from coverslip.dicom.objects import DicomObject, object_bytes
from coverslip.errors import DoesNotComeBackError, RecordTooLargeError
from coverslip.pipeline.binding import (
    BindingSeal,
    bind,
    dark_air,
    matches,
    measure_brightness,
)
from coverslip.pipeline.embedding import (
    CleanHeader,
    Embedding,
    EmbedOptions,
    clean_header,
    embed_in_header,
    notes_of,
    reasons_against_pixels,
    refuse_marked,
)
from coverslip.pipeline.planes import step_choices
from coverslip.pipeline.reports import HeaderReason, SealedRecord
from coverslip.pipeline.sealed_header import seal_header_part
from coverslip.qr.symbol import MAX_FRAME_BYTES
from coverslip.scheme.profiles import Scheme


@dataclass(frozen=True)
class SealedApart:
    """An image that was de-identified, and its sealed record, ready to be embedded elsewhere.

    Attributes
    ----------
    source : DicomObject
        The original.
    header : Dataset
        De-identified, not marked.
    sealed : SealedRecord
    binding : BindingSeal or None
        What the record says of its image; None where the image has nothing to bind to.
    notes : list of str
        What the reader of a report should know.
    """

    source: DicomObject
    header: Dataset = field(repr=False)
    sealed: SealedRecord = field(repr=False)
    binding: BindingSeal | None
    notes: list[str]

    def clean_file(self) -> bytes:
        """The de-identified image, as the bytes of a file.

        Raises
        ------
        CannotWriteError
        """
        return object_bytes(self.source, self.header)


@dataclass(frozen=True)
class CompletedStego:
    """A stego file with its sealed header part.

    Attributes
    ----------
    content : bytes
        The file.
    header_bytes : int
        Of the sealed header part.
    """

    content: bytes = field(repr=False)
    header_bytes: int


def seal_apart(
    source: DicomObject, recipient: Recipient, options: EmbedOptions
) -> SealedApart | Embedding:
    """De-identify and seal an object whose pixels somebody else embeds into.

    Parameters
    ----------
    source : DicomObject
    recipient : Recipient
    options : EmbedOptions
        Profile and beta must be those of the embedding: they decide what the record is bound to.

    Returns
    -------
    SealedApart or Embedding
        An embedding, complete, where the header alone may carry: nobody else is needed for it.

    Raises
    ------
    AlreadyCarriesError, BurnedInAnnotationError
    HeaderOnlyError
        With ``require_pixels``, an object that only the header can carry.
    """
    refuse_marked(source)
    clean = clean_header(source, recipient, options)
    reasons = reasons_against_pixels(source.dataset, source, options)
    if not reasons:
        try:
            return _for_pixels(source, clean, recipient, options)
        except RecordTooLargeError as error:
            if options.require_pixels:
                raise
            reasons = [HeaderReason(error.code, str(error))]
    return embed_in_header(source, clean, recipient, options, reasons)


def _for_pixels(
    source: DicomObject, clean: CleanHeader, recipient: Recipient, options: EmbedOptions
) -> SealedApart:
    assert source.image is not None
    if not clean.encoded:
        raise RecordTooLargeError(needed=MAX_FRAME_BYTES + 1, available=MAX_FRAME_BYTES)
    air = dark_air(source.image)
    brightness = measure_brightness(air, source.image.legal[0])
    # Whoever embeds takes the same level: it follows from the pixels and the first choice alone.
    first = step_choices(options.profile, options.beta, source.image)[0]
    level = None if first.scheme is Scheme.PAPER else brightness.level_for(first.step)
    binding = None if level is None else bind(air, level)
    sealed = clean.seal(recipient, binding)
    if len(sealed.frame) > MAX_FRAME_BYTES:
        raise RecordTooLargeError(needed=len(sealed.frame), available=MAX_FRAME_BYTES)
    return SealedApart(source, clean.header, sealed, binding, notes_of(source))


def add_header_part(apart: SealedApart, stego: DicomObject, recipient: Recipient) -> CompletedStego:
    """Seal original header and undo list into the header of a stego file that came back.

    Parameters
    ----------
    apart : SealedApart
        What was sent.
    stego : DicomObject
        What came back.
    recipient : Recipient

    Raises
    ------
    DoesNotComeBackError
        What came back is not the image that was sent.
    CannotWriteError
    """
    mark = _mark_of_same_image(apart, stego)
    assert stego.image is not None
    frames = stego.image.frames if mark.carried is Carried.PIXELS else None
    part = seal_header_part(apart.source, apart.header, recipient, frames)
    completed = copy.deepcopy(stego.dataset)
    write_sealed_part(completed, part)
    return CompletedStego(object_bytes(stego, completed), len(part))


def _mark_of_same_image(apart: SealedApart, stego: DicomObject) -> Mark:
    mark = read_mark(stego.dataset)
    sent, back = apart.source.image, stego.image
    same = sent is not None and back is not None and sent.frames.shape == back.frames.shape
    if same and back is not None and apart.binding is not None:
        same = matches(dark_air(back), apart.binding)
    if not same or mark is None:
        raise DoesNotComeBackError(
            "what came back is not the image that was sent, with a record in it; nothing is kept: "
            "try again, and have the server looked at if it happens again"
        )
    return mark
