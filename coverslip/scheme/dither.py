"""The dither: a secret offset for every coefficient position.

Without it nobody finds the lattice. The key is HKDF-SHA256 (RFC 5869) of the recipient's public key
with a fixed label; row r of blocks takes the ChaCha20 (RFC 8439) keystream with nonce r, one byte
for each coefficient. Anyone who can seal to a recipient, or open as one, can compute it; nobody
else.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from coverslip.scheme.dct import COEFFICIENTS

_LABEL = b"coverslip dither v1"


@lru_cache(maxsize=64)
def dither_key(public_key: bytes) -> bytes:
    """The 32-byte keystream key of a recipient's raw public key (32 bytes)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_LABEL).derive(public_key)


@lru_cache(maxsize=8)
def dither_plane(key: bytes, rows: int, cols: int) -> NDArray[np.uint8]:
    """The dither of every coefficient position.

    Parameters
    ----------
    key : bytes
        32 bytes, from `dither_key`.
    rows, cols : int
        Full blocks along the image's height and width. A row's values do not depend on either.

    Returns
    -------
    ndarray uint8 [rows, cols, 16], read-only
        In 1/256 of a step.
    """
    zeros = bytes(cols * COEFFICIENTS)
    stream = bytearray()
    for row in range(rows):
        # The library's ChaCha20 expects the 32-bit block counter before RFC 8439's 96-bit nonce.
        nonce = bytes(4) + row.to_bytes(12, "little")
        stream += Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(zeros)
    return np.frombuffer(bytes(stream), dtype=np.uint8).reshape(rows, cols, COEFFICIENTS)
