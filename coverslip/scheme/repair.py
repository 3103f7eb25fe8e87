"""Repairing a symbol whose votes are missing or doubtful, before a QR reader sees it.

A QR reader knows a module as dark or light; the votes know how sure each is. Reed-Solomon repairs
twice as many codewords when it is told which ones to distrust (erasures), so the doubtful codewords
of each block are named to it, a few more each time, and the symbol is drawn again from the
likeliest of what comes out.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import qrcode
from numpy.typing import NDArray
from qrcode.base import rs_blocks
from reedsolo import ReedSolomonError, RSCodec

from coverslip.qr.symbol import MASK_PATTERN, Level, function_modules, side_of
from coverslip.scheme.address import module_order
from coverslip.scheme.reader import Votes

_SPARE = 4
"""Parity codewords kept back for errors nobody doubted: two of them. A block repaired with none to
spare may be repaired wrongly, which the seal would notice."""


@lru_cache(maxsize=128)
def block_layout(
    version: int, level: Level = Level.L
) -> tuple[NDArray[np.int64], tuple[tuple[int, int], ...]]:
    """Where the codewords of each Reed-Solomon block stand in a symbol.

    Returns
    -------
    index : int64 [blocks, longest]
        Place in the stream of codewords, -1 past a block's end: data, then parity.
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
    """Codewords as read, unmasked, and the log-likelihood ratio of each of their bits, above 0 = 1:
    uint8 [n], float32 [n, 8].
    """
    side = side_of(votes.version)
    index, _ = block_layout(votes.version, votes.level)
    order = module_order(side)[: 8 * (int(index.max()) + 1)]
    row, col = np.divmod(order, side)
    ratios = votes.modules.reshape(-1)[order]
    # Mask pattern 0 of ISO/IEC 18004, table 10: row + column even.
    ratios = np.where((row + col) % 2 == 0, -ratios, ratios)
    # A module with no vote at all is light, as the symbol draws it.
    bits = ratios > 0
    return np.packbits(bits), ratios.reshape(-1, 8)


def _decode(block: NDArray[np.uint8], ratios: NDArray[np.float32], parity: int) -> bytes | None:
    """The block that the votes say is likeliest, of those that decoding finds when it distrusts
    ever more codewords.

    Forney's generalised minimum distance decoding: each number of erasures gives at most one
    candidate, and the one that agrees best with how sure each bit is wins. A wrong candidate that
    few erasures happen to allow loses against the right one.
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
    """The symbol that the votes mean, after Reed-Solomon with erasures; None when too much is
    missing.

    Parameters
    ----------
    votes : Votes

    Returns
    -------
    bool [n, n] or None
        True = dark.
    """
    words, ratios = _codewords(votes)
    index, sizes = block_layout(votes.version, votes.level)
    fixed = words.copy()
    for places, (total, data) in zip(index, sizes, strict=True):
        block = _decode(words[places[:total]], ratios[places[:total]], total - data)
        if block is None:
            return None
        fixed[places[:total]] = np.frombuffer(block, dtype=np.uint8)
    return _drawn(votes.version, votes.level, fixed)


def _drawn(version: int, level: Level, words: NDArray[np.uint8]) -> NDArray[np.bool_]:
    code = qrcode.QRCode(
        version=version, error_correction=level.value, border=0, mask_pattern=MASK_PATTERN
    )
    known = function_modules(version, level)
    code.modules_count = len(known)
    code.modules = [[None if value == 0 else bool(value > 0) for value in row] for row in known]
    code.map_data(words.tolist(), MASK_PATTERN)
    return np.array(code.modules, dtype=bool)
