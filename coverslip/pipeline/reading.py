"""From pixels to a frame: votes with and without a mask, and what a sealed frame holds."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coverslip import record as records
from coverslip.crypto.keys import Identity, Recipient
from coverslip.crypto.seal import FrameKind, kind_of, unseal
from coverslip.engine import Engine
from coverslip.errors import (
    DamagedMessageError,
    WrongKeyError,
)
from coverslip.pipeline.binding import BindingSeal, unpack
from coverslip.qr import symbol as symbols
from coverslip.scheme.dct import to_blocks
from coverslip.scheme.dither import dither_key, dither_plane
from coverslip.scheme.offset import find_offset
from coverslip.scheme.paper import extract_paper, find_side
from coverslip.scheme.profiles import Profile
from coverslip.scheme.reader import Reader, Votes
from coverslip.scheme.reference import measure_plane
from coverslip.scheme.repair import repair

_UID_LABEL = b"coverslip uid v1"


def uid_key(recipient: Recipient) -> bytes:
    """The key under which UIDs are replaced: the same for every file sealed to a recipient, so that
    a series stays a series.
    """
    return hmac.digest(recipient.public, _UID_LABEL, hashlib.sha256)


def read_plane(
    pixels: NDArray[np.int32],
    recipient: Recipient,
    profile: Profile,
    phases: NDArray[np.uint8] | None = None,
    mask: NDArray[np.uint8] | None = None,
) -> Votes | None:
    """The votes of one plane for a recipient and a profile; None when nothing is found.

    Parameters
    ----------
    pixels : int32 [H, W]
        Air dark.
    recipient : Recipient
    profile : Profile
    phases : uint8 [Hb, Wb, 16], optional
        Measured by an engine at the profile's step; numpy measures them where absent.
    mask : uint8 [H, W], optional
        1 = body; reading needs none.
    """
    measured = measure_plane(pixels, profile.step) if phases is None else phases
    rows, cols = measured.shape[:2]
    if not rows or not cols:
        return None
    clear = None if mask is None else ~to_blocks(mask).any(axis=-1)
    dither = dither_plane(dither_key(recipient.public), rows, cols)
    return Reader(measured, dither, profile, clear).find()


def read_cropped(pixels: NDArray[np.int32], recipient: Recipient, profile: Profile) -> Votes | None:
    """As `read_plane`, for an image whose rows and columns were cut away after embedding: the
    offset is searched for first.
    """
    key = dither_key(recipient.public)
    offset = find_offset(pixels, key, profile.step, profile.coefficients)
    if offset is None:
        return None
    down, right = offset.align
    return read_part(pixels[down:, right:], offset.blocks, recipient, profile)


def read_part(
    pixels: NDArray[np.int32], origin: tuple[int, int], recipient: Recipient, profile: Profile
) -> Votes | None:
    """As `read_plane`, for the part of an image that begins with the block in this row and column
    of the grid.
    """
    (row, col), measured = origin, measure_plane(pixels, profile.step)
    rows, cols = measured.shape[:2]
    dither = dither_plane(dither_key(recipient.public), row + rows, col + cols)[row:, col:]
    return Reader(measured, dither, profile, origin=origin).find()


def read_paper(pixels: NDArray[np.int32], engine: Engine, profile: Profile) -> Votes | None:
    """Algorithm 2 on one plane: outline the body again, walk the same blocks."""
    mask = engine.segment(pixels[None]).mask[0]
    side = find_side(pixels, mask, profile)
    if side is None:
        return None
    read = extract_paper(pixels, mask, side, profile)
    return Votes(np.where(read, np.float32(1), np.float32(-1)), symbols.version_of(side), 0, 0.0)


def read_votes(votes: Votes) -> bytes:
    """The sealed frame that votes say: by a QR reader as it stands, or after repair where too many
    modules are doubtful.

    Raises
    ------
    DamagedMessageError
        Too much of it is missing.
    """
    try:
        return symbols.read(votes.symbol())
    except DamagedMessageError:
        repaired = repair(votes)
        if repaired is None:
            raise
        return symbols.read(repaired)


@dataclass(frozen=True)
class OpenedFrame:
    """The content of a sealed frame.

    Attributes
    ----------
    record : Record
    binding : BindingSeal or None
        None in frames that name no image.
    """

    record: records.Record
    binding: BindingSeal | None


def open_frame(sealed: bytes, identity: Identity) -> OpenedFrame:
    """Open and decode a sealed record that was found by its identity's own dither.

    Raises
    ------
    DamagedMessageError
        It does not open, although the dither was this identity's.
    """
    try:
        content = unseal(sealed, identity.secret)
    except WrongKeyError:
        raise DamagedMessageError(
            "a record for this identity was found but does not open: it was altered, or made by "
            "something that is not Coverslip; read it from an undamaged copy"
        ) from None
    if kind_of(sealed) is FrameKind.RECORD:
        return OpenedFrame(records.decode(content), None)
    if kind_of(sealed) is FrameKind.BOUND_RECORD:
        binding, encoded = unpack(content)
        return OpenedFrame(records.decode(encoded), binding)
    raise DamagedMessageError(
        "a sealed frame was found where a record belongs, but it holds something else: read the "
        "record from an undamaged copy"
    )
