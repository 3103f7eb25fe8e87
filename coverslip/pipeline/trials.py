"""What a stego plane may meet on its way where a profile is for that, tried on the very plane
before it counts.

A codec with a fixed budget takes from the background what the body needs, and a crop takes the air
that lies at the edges: whether a record comes back depends on the image, and no figure that is
known beforehand says so as surely as trying it once.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from coverslip.crypto.keys import Recipient
from coverslip.errors import DamagedMessageError
from coverslip.pipeline.reading import read_part, read_plane, read_votes
from coverslip.scheme.dct import SIDE
from coverslip.scheme.profiles import Profile
from coverslip.scheme.reader import Votes

Codec = Callable[[NDArray[np.int32], tuple[int, int]], NDArray[np.int32]]
"""From a plane int32 [H, W] and its legal range to what a lossy codec leaves of it."""

_JPEG2000_RATIO = 20
_JPEG_QUALITY = 75
_CROP = 0.06
"""Share of the side that every edge loses; so much of its blocks as they lie, since a reader finds
any offset.
"""


def _whole(plane: NDArray[np.float64], legal: tuple[int, int]) -> NDArray[np.int32]:
    return np.clip(np.rint(plane), *legal).astype(np.int32)


def jpeg2000(plane: NDArray[np.int32], legal: tuple[int, int]) -> NDArray[np.int32]:
    """JPEG 2000 (9/7, OpenJPEG) at 20:1 of the stored bits."""
    import openjpeg.utils  # a codec is loaded when it is needed

    lo, hi = legal
    kind = np.int16 if lo < 0 else np.uint16
    coded = openjpeg.utils.encode_array(
        plane.astype(kind),
        bits_stored=int(hi - lo).bit_length(),
        photometric_interpretation=2,
        compression_ratios=[_JPEG2000_RATIO],
    )
    return _whole(
        openjpeg.utils.decode(bytes(coded)).reshape(plane.shape).astype(np.float64), legal
    )


def jpeg(plane: NDArray[np.int32], legal: tuple[int, int]) -> NDArray[np.int32]:
    """JPEG at quality 75 (libjpeg's tables) of the image scaled to 8 bits over its own range, and
    scaled back.
    """
    from PIL import Image  # a codec is loaded when it is needed

    lo, hi = int(plane.min()), int(plane.max())
    scale = 255 / max(hi - lo, 1)
    stream = io.BytesIO()
    Image.fromarray(np.rint((plane - lo) * scale).astype(np.uint8)).save(
        stream, "JPEG", quality=_JPEG_QUALITY
    )
    return _whole(lo + np.asarray(Image.open(stream)) / scale, legal)


class Disturbance(str, Enum):
    """What a stego plane may meet on its way, in the order in which it is tried."""

    CROP = "crop"
    JPEG2000 = "jpeg-2000"
    JPEG = "jpeg"

    @property
    def description(self) -> str:
        """What happens to the image, as a noun phrase or clause after "after"."""
        return _DESCRIPTIONS[self]


CODECS: dict[Disturbance, Codec] = {
    Disturbance.JPEG2000: jpeg2000,
    Disturbance.JPEG: jpeg,
}

_DESCRIPTIONS = {
    Disturbance.CROP: f"{_CROP:.0%} of every side is cut away",
    Disturbance.JPEG2000: f"JPEG 2000 at {_JPEG2000_RATIO}:1",
    Disturbance.JPEG: f"JPEG at quality {_JPEG_QUALITY}",
}


def _read_within(stego: NDArray[np.int32], recipient: Recipient, profile: Profile) -> Votes | None:
    """The votes of what is left where every edge loses the blocks that a crop by `_CROP`
    touches.
    """
    row, col = (-(-int(_CROP * side) // SIDE) for side in stego.shape)
    rows, cols = stego.shape
    return read_part(
        stego[SIDE * row : rows - SIDE * row, SIDE * col : cols - SIDE * col],
        (row, col),
        recipient,
        profile,
    )


def _readings(
    stego: NDArray[np.int32], legal: tuple[int, int], recipient: Recipient, profile: Profile
) -> Iterator[tuple[Disturbance, Votes | None]]:
    """What is read after each `Disturbance`, in their order; each is made when it is asked for."""
    yield Disturbance.CROP, _read_within(stego, recipient, profile)
    for name, codec in CODECS.items():
        yield name, read_plane(codec(stego, legal), recipient, profile)


def first_failing_disturbance(
    stego: NDArray[np.int32],
    legal: tuple[int, int],
    recipient: Recipient,
    profile: Profile,
    sealed: bytes,
) -> Disturbance | None:
    """The first `Disturbance` that a sealed frame does not survive; None where it survives all.

    Parameters
    ----------
    stego : int32 [H, W]
        Air dark.
    legal : (lo, hi)
    recipient : Recipient
    profile : Profile
        What it was embedded with.
    sealed : bytes
        What shall come back.
    """
    for name, votes in _readings(stego, legal, recipient, profile):
        try:
            if votes is None or read_votes(votes) != sealed:
                return name
        except DamagedMessageError:
            return name
    return None
