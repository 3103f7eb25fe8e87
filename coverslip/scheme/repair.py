"""Repairs a symbol with missing or doubtful votes before a QR reader gets it.

A QR reader sees a module as dark or light; the votes also say how certain each one is. Reed-Solomon
corrects twice as many codewords if the wrong ones are marked (erasures). So the most doubtful
codewords of each block are marked, a few more each time, and the symbol is drawn again from the
likeliest result.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import qrcode
from numpy.typing import NDArray
from qrcode.base import rs_blocks
from reedsolo import ReedSolomonError, RSCodec

from coverslip.qr.symbol import MASK_PATTERN, ErrorCorrection, function_modules, side_of
from coverslip.scheme.address import module_order
from coverslip.scheme.reader import Votes

_SPARE = 4
"""Parity codewords reserved for unmarked errors, two of them. A block decoded without spare parity
may come out wrong, which the seal would detect."""


@lru_cache(maxsize=128)
def block_layout(
    version: int, level: ErrorCorrection = ErrorCorrection.L
) -> tuple[NDArray[np.int64], tuple[tuple[int, int], ...]]:
    """The positions of the codewords of each Reed-Solomon block of a symbol.

    Returns
    -------
    index : int64 [blocks, longest]
        Position in the stream of codewords, data then parity; -1 past a block's end.
    sizes : tuple of (total, data)
        Codewords of each block.
    """
    blocks = rs_blocks(version, level.value)
    sizes = tuple((block.total_count, block.data_count) for block in blocks)
    index = np.full((len(sizes), max(total for total, _ in sizes)), -1, dtype=np.int64)
    place = 0
    for column in range(max(data for _, data in sizes)):
        for row, (_, data) in enumerate(sizes):
            if column < data:
                index[row, column] = place
                place += 1
    for column in range(max(total - data for total, data in sizes)):
        for row, (total, data) in enumerate(sizes):
            if column < total - data:
                index[row, data + column] = place
                place += 1
    index.setflags(write=False)
    return index, sizes


def _codewords(votes: Votes) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The unmasked codewords of some votes.

    Returns
    -------
    words : uint8 [n]
    ratios : float32 [n, 8]
        Log-likelihood ratio of each bit, above 0 = 1.
    """
    side = side_of(votes.version)
    index, _ = block_layout(votes.version, votes.level)
    order = module_order(side)[: 8 * (int(index.max()) + 1)]
    row, col = np.divmod(order, side)
    ratios = votes.modules.reshape(-1)[order]
    # Mask pattern 0 of ISO/IEC 18004, table 10: row + column even.
    ratios = np.where((row + col) % 2 == 0, -ratios, ratios)
    # A module without a vote is light, as in `Votes.symbol`.
    bits = ratios > 0
    return np.packbits(bits), ratios.reshape(-1, 8)


def _decode(block: NDArray[np.uint8], ratios: NDArray[np.float32], parity: int) -> bytes | None:
    """The likeliest block, of those decoded with ever more erasures; None if none decodes.

    Forney's generalised minimum distance decoding: each number of erasures gives at most one
    candidate, and the candidate that agrees best with the bits' likelihoods wins. A wrong candidate
    that few erasures happen to allow loses against the right one.
    """
    codec = RSCodec(parity)
    doubtful = np.argsort(-np.logaddexp(0.0, -np.abs(ratios)).sum(axis=1), kind="stable")
    best: tuple[float, bytes] | None = None
    for count in range(0, max(parity - _SPARE, 0) + 1, 2):
        try:
            candidate = bytes(codec.decode(block.tobytes(), erase_pos=doubtful[:count].tolist())[1])
        except ReedSolomonError:
            continue
        bits = np.unpackbits(np.frombuffer(candidate, dtype=np.uint8)).reshape(-1, 8)
        agreement = float(np.where(bits, ratios, -ratios).sum())
        if best is None or agreement > best[0]:
            best = agreement, candidate
    return None if best is None else best[1]


def repair(votes: Votes) -> NDArray[np.bool_] | None:
    """Decode some votes by Reed-Solomon with erasures and draw their symbol again.

    Parameters
    ----------
    votes : Votes

    Returns
    -------
    bool [n, n] or None
        True = dark; None if too much is missing.
    """
    words, ratios = _codewords(votes)
    index, sizes = block_layout(votes.version, votes.level)
    fixed = words.copy()
    for places, (total, data) in zip(index, sizes, strict=True):
        block = _decode(words[places[:total]], ratios[places[:total]], total - data)
        if block is None:
            return None
        fixed[places[:total]] = np.frombuffer(block, dtype=np.uint8)
    return _draw(votes.version, votes.level, fixed)


def _draw(version: int, level: ErrorCorrection, words: NDArray[np.uint8]) -> NDArray[np.bool_]:
    code = qrcode.QRCode(
        version=version, error_correction=level.value, border=0, mask_pattern=MASK_PATTERN
    )
    known = function_modules(version, level)
    code.modules_count = len(known)
    code.modules = [[None if value == 0 else bool(value > 0) for value in row] for row in known]
    code.map_data(words.tolist(), MASK_PATTERN)
    return np.array(code.modules, dtype=bool)
