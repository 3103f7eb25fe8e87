"""The QR symbol of a sealed frame: Base45 (RFC 9285) in alphanumeric mode, one fixed mask pattern.

Sealed bytes are random, so one mask pattern is as good as the best of eight and much faster to
make. Level L gives the smallest symbol, for images that stay as they are; if modules get lost, a
stronger level helps more than a second vote for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache

import base45
import numpy as np
import qrcode
from numpy.typing import NDArray
from qrcode.util import BIT_LIMIT_TABLE, MODE_ALPHA_NUM, QRData, length_in_bits

from coverslip.errors import DamagedMessageError, DecoderMissingError, RecordTooLargeError

MASK_PATTERN = 0
VERSIONS = range(1, 41)


class ErrorCorrection(Enum):
    """Error correction level of a symbol: L, M or Q.

    About 7 %, 15 % and 25 % of the codewords may be wrong; twice as many if the wrong ones are
    known. The values are the indicators of ISO/IEC 18004, table 12.
    """

    L = qrcode.constants.ERROR_CORRECT_L
    M = qrcode.constants.ERROR_CORRECT_M
    Q = qrcode.constants.ERROR_CORRECT_Q


_ALPHANUMERIC_40 = {ErrorCorrection.L: 4296, ErrorCorrection.M: 3391, ErrorCorrection.Q: 2420}
"""Characters in the largest symbol (version 40), alphanumeric mode; ISO/IEC 18004, table 7."""


def largest_frame(level: ErrorCorrection) -> int:
    """Most bytes that a symbol of a level holds: Base45 turns 2 bytes into 3 characters."""
    return _ALPHANUMERIC_40[level] // 3 * 2


MAX_FRAME_BYTES = largest_frame(ErrorCorrection.L)

_SCALE = 4
_QUIET_ZONE = 4


def side_of(version: int) -> int:
    """Modules along the side of a version 1 to 40 symbol."""
    return 17 + 4 * version


def version_of(side: int) -> int:
    """Version of a symbol with ``side`` modules along its side."""
    return (side - 17) // 4


def level_for(frame_bytes: int, levels: Sequence[ErrorCorrection]) -> ErrorCorrection:
    """The first of some levels whose largest symbol holds a frame of ``frame_bytes``.

    Raises
    ------
    RecordTooLargeError
        No level's symbol holds the frame.
    """
    for level in levels:
        if frame_bytes <= largest_frame(level):
            return level
    raise RecordTooLargeError(
        needed=frame_bytes, available=max(largest_frame(level) for level in levels)
    )


def version_for(frame_bytes: int, level: ErrorCorrection = ErrorCorrection.L) -> int:
    """The smallest version of a level that holds a frame of 1 to `largest_frame` bytes.

    The library can find it too, but codes the text again for each version it tries.
    """
    pairs, odd = divmod(frame_bytes, 2)
    letters = 3 * pairs + 2 * odd
    bits = 4 + 11 * (letters // 2) + 6 * (letters % 2)  # ISO/IEC 18004 section 7.4.4
    limits = BIT_LIMIT_TABLE[level.value]
    return next(
        version
        for version in VERSIONS
        if bits + length_in_bits(MODE_ALPHA_NUM, version) <= limits[version]
    )


def draw(frame: bytes, level: ErrorCorrection = ErrorCorrection.L) -> NDArray[np.bool_]:
    """Draw the symbol of a sealed frame.

    Parameters
    ----------
    frame : bytes
        1 to `largest_frame` bytes.
    level : ErrorCorrection

    Returns
    -------
    bool [n, n]
        True = dark; no quiet zone.

    Raises
    ------
    RecordTooLargeError
        The frame is larger than the largest symbol holds.
    """
    version = version_for(len(frame), level_for(len(frame), [level]))
    code = qrcode.QRCode(
        version=version, error_correction=level.value, border=0, mask_pattern=MASK_PATTERN
    )
    # The mode is explicit: the library would guess numeric mode for a text of digits alone.
    code.add_data(QRData(base45.b45encode(frame), mode=MODE_ALPHA_NUM, check_data=False))
    code.make(fit=False)
    return np.array(code.modules, dtype=bool)


@lru_cache(maxsize=128)
def function_modules(version: int, level: ErrorCorrection = ErrorCorrection.L) -> NDArray[np.int8]:
    """The modules that all our symbols of a version and level share.

    These are the finder, timing, alignment, format and version patterns. Their places do not depend
    on the level; of their values, only the format's do.

    Returns
    -------
    int8 [n, n]
        1 = dark, -1 = light, 0 = depends on the data.
    """
    code = qrcode.QRCode(
        version=version, error_correction=level.value, border=0, mask_pattern=MASK_PATTERN
    )
    side = side_of(version)
    code.modules_count = side
    code.modules = [[None] * side for _ in range(side)]
    for row, col in ((0, 0), (side - 7, 0), (0, side - 7)):
        code.setup_position_probe_pattern(row, col)
    code.setup_position_adjust_pattern()
    code.setup_timing_pattern()
    code.setup_type_info(False, MASK_PATTERN)
    if version >= 7:
        code.setup_type_number(False)
    known = np.array(
        [[0 if m is None else (1 if m else -1) for m in row] for row in code.modules], dtype=np.int8
    )
    known.setflags(write=False)
    return known


def render(symbol: NDArray[np.bool_], scale: int = _SCALE) -> NDArray[np.uint8]:
    """A symbol as grey bytes with its quiet zone, ``scale`` pixels a module.

    0 = dark, 255 = light.
    """
    framed = np.pad(symbol, _QUIET_ZONE)
    return np.where(np.kron(framed, np.ones((scale, scale), dtype=bool)), 0, 255).astype(np.uint8)


def _read_zxing(image: NDArray[np.uint8]) -> list[bytes]:
    import zxingcpp

    barcodes = zxingcpp.read_barcodes(
        image, formats=zxingcpp.BarcodeFormat.QRCode, try_rotate=False, try_invert=False
    )
    return [barcode.bytes for barcode in barcodes]


def _read_zbar(image: NDArray[np.uint8]) -> list[bytes]:
    from pyzbar import pyzbar

    barcodes = pyzbar.decode(image, symbols=[pyzbar.ZBarSymbol.QRCODE])
    return [barcode.data for barcode in barcodes]


READERS: dict[str, Callable[[NDArray[np.uint8]], list[bytes]]] = {
    "zxing-cpp": _read_zxing,
    "zbar": _read_zbar,
}
"""QR readers by name, fastest first."""


def available_readers() -> list[str]:
    """Names of the readers that work on this machine: zbar needs its system library."""
    blank = np.full((64, 64), 255, dtype=np.uint8)
    names = []
    for name, reader in READERS.items():
        try:
            reader(blank)
        except ImportError:
            continue
        names.append(name)
    return names


def read(symbol: NDArray[np.bool_]) -> bytes:
    """Read the sealed frame of a symbol with the first reader that can.

    Parameters
    ----------
    symbol : bool [n, n]
        True = dark.

    Raises
    ------
    DamagedMessageError
        No reader can read it.
    DecoderMissingError
        No reader is installed.
    """
    image = render(symbol)
    installed = 0
    for reader in READERS.values():
        try:
            texts = reader(image)
        except ImportError:
            continue
        installed += 1
        for text in texts:
            try:
                return bytes(base45.b45decode(text))
            except ValueError:
                # Alphanumeric, but not Base45: not a frame of ours.
                continue
    if not installed:
        raise DecoderMissingError(
            "no QR reader is installed: expected zxing-cpp or pyzbar with the zbar library; "
            "install 'zxing-cpp'"
        )
    raise DamagedMessageError(
        "a symbol is there, but too many of its modules are wrong to read it: the pixels were "
        "changed after embedding; read it from an unchanged copy"
    )
