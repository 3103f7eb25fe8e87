"""The private block of a file that carries a record: a mark for the reader, and a sealed part.

The mark is a hint: it says what to try first and who may be able to read, and nothing depends on
it. It stands in group 0099 under the creator COVERSLIP.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import Enum

from pydicom.dataset import Dataset

from coverslip.crypto.keys import Recipient
from coverslip.dicom.raw import leaf

GROUP = 0x0099
CREATOR = "COVERSLIP"
_VERSION = 2
_FIRST_VERSION = 1
_CHECK_LABEL = {1: b"coverslip check v1", 2: b"coverslip check v2"}
_CHECK_BYTES = 8
_NONCE_BYTES = 16
_NONCE_LABEL = b"coverslip nonce v2"


class Carried(str, Enum):
    """Where an instance carries its record."""

    PIXELS = "pixels"
    HEADER = "header"


_VERSION_AT, _PROFILE_AT, _STEP_AT, _CHECK_AT, _NONCE_AT, _CARRIED_AT = 1, 2, 3, 4, 5, 6
_PART_AT, _RECORD_AT = 0x10, 0x11


@dataclass(frozen=True)
class Mark:
    """What a file that carries a record says about it.

    Attributes
    ----------
    version : int
        Of the mark.
    profile : str
        Profile that it was embedded with; empty where the header carries the record.
    step : float
        Grey levels; 0 where the header carries the record.
    check : bytes
        8 bytes by which a recipient knows that the record is theirs.
    nonce : bytes
        What the check is made of beside the recipient; empty in version 1, whose check is made
        of the SOP Instance UID.
    carried : Carried
    """

    version: int
    profile: str
    step: float
    check: bytes
    nonce: bytes = b""
    carried: Carried = Carried.PIXELS

    def is_for(self, recipient: Recipient, sop_instance_uid: str) -> bool:
        """Whether the check is a recipient's.

        Parameters
        ----------
        recipient : Recipient
        sop_instance_uid : str
            The file's, which the check of version 1 is made of.
        """
        if self.version == _FIRST_VERSION:
            expected = check_value(recipient, sop_instance_uid.encode(), _FIRST_VERSION)
        else:
            expected = check_value(recipient, self.nonce)
        return hmac.compare_digest(self.check, expected)


def check_value(recipient: Recipient, salt: bytes, version: int = _VERSION) -> bytes:
    """Eight bytes that tell the holder of a key that a file was sealed to it, and nobody else."""
    label = _CHECK_LABEL[version]
    return hmac.digest(recipient.public, label + salt, hashlib.sha256)[:_CHECK_BYTES]


def new_mark(
    recipient: Recipient,
    sealed: bytes,
    profile: str = "",
    step: float = 0.0,
    carried: Carried = Carried.PIXELS,
) -> Mark:
    """A mark for a recipient.

    Parameters
    ----------
    recipient : Recipient
    sealed : bytes
        The sealed frame that the file carries. It is different each time, and so its hash serves
        as the nonce: the same frame gives the same file.
    profile : str
        At most 16 capital letters, digits, spaces and underscores once capitalised (CS).
    step : float
        Grey levels.
    carried : Carried
    """
    nonce = hashlib.sha256(_NONCE_LABEL + sealed).digest()[:_NONCE_BYTES]
    return Mark(_VERSION, profile, step, check_value(recipient, nonce), nonce, carried)


def write_mark(ds: Dataset, mark: Mark, sealed_part: bytes = b"") -> None:
    """Say in a private block that a file carries a record, and put its sealed header part there.

    Parameters
    ----------
    ds : Dataset
        Changed in place.
    mark : Mark
    sealed_part : bytes
        A sealed frame; none where empty.
    """
    ds.private_block(GROUP, CREATOR, create=True)
    _add(ds, _VERSION_AT, "US", mark.version)
    _add(ds, _PROFILE_AT, "CS", mark.profile.upper())
    _add(ds, _STEP_AT, "FD", mark.step)
    _add(ds, _CHECK_AT, "OB", mark.check)
    if mark.version > _FIRST_VERSION:
        _add(ds, _NONCE_AT, "OB", mark.nonce)
        _add(ds, _CARRIED_AT, "CS", mark.carried.value.upper())
    write_sealed_part(ds, sealed_part)


def write_sealed_part(ds: Dataset, frame: bytes) -> None:
    """Put a sealed header part into the private block of a marked data set, in place.

    Parameters
    ----------
    ds : Dataset
    frame : bytes
        A sealed frame; none where empty.
    """
    if frame:
        _add(ds, _PART_AT, "OB", _with_length(frame))


def write_sealed_record(ds: Dataset, frame: bytes) -> None:
    """Put the sealed record into the private block of an object whose header carries it.

    Parameters
    ----------
    ds : Dataset
        Marked; changed in place.
    frame : bytes
        A sealed frame; none where empty.
    """
    if frame:
        _add(ds, _RECORD_AT, "OB", _with_length(frame))


def _add(ds: Dataset, offset: int, vr: str, value: object) -> None:
    # Not through the block: that of a copied data set writes into what it was copied from.
    ds.add_new(ds.private_block(GROUP, CREATOR).get_tag(offset), vr, value)


def _with_length(frame: bytes) -> bytes:
    # The length goes before: an odd value is padded when it is written.
    return struct.pack("<I", len(frame)) + frame


def _values(ds: Dataset) -> dict[int, bytes]:
    """Values of the private block by element; empty where there is no such block."""
    if CREATOR not in ds.private_creators(GROUP):
        return {}
    block = ds.private_block(GROUP, CREATOR)
    values = {}
    for offset in range(0x100):
        tag = block.get_tag(offset)
        # Not `in block`: a copy of a data set has blocks that look into what it was copied from.
        if tag in ds:
            # An implicit transfer syntax loses a private element's VR: the bytes are read as
            # written.
            value = leaf(ds, tag).value
            if isinstance(value, bytes):
                values[offset] = value
    return values


def read_mark(ds: Dataset) -> Mark | None:
    """The mark of a file that carries a record; None where there is none that makes sense."""
    values = _values(ds)
    version, profile, step, check = (values.get(at, b"") for at in (1, 2, 3, 4))
    if (len(version), len(step), len(check)) != (2, 8, _CHECK_BYTES):
        return None
    number, size = int.from_bytes(version, "little"), struct.unpack("<d", step)[0]
    if not 0 <= size < float("inf"):
        return None
    carried = values.get(_CARRIED_AT, b"").decode("ascii", errors="replace").strip().lower()
    return Mark(
        number,
        profile.decode("ascii", errors="replace").strip().lower(),
        size,
        check,
        values.get(_NONCE_AT, b""),
        Carried.HEADER if carried == Carried.HEADER.value else Carried.PIXELS,
    )


def read_sealed_part(ds: Dataset) -> bytes:
    """The sealed header part of a file; empty where there is none."""
    return _frame_at(ds, _PART_AT)


def read_sealed_record(ds: Dataset) -> bytes:
    """The sealed record that a file carries in its header; empty where there is none."""
    return _frame_at(ds, _RECORD_AT)


def _frame_at(ds: Dataset, offset: int) -> bytes:
    value = _values(ds).get(offset, b"")
    if len(value) < 4:
        return b""
    length = struct.unpack_from("<I", value)[0]
    return value[4 : 4 + length] if 4 + length <= len(value) else b""


def remove_mark(ds: Dataset) -> None:
    """Take the private block's group out of a data set, in place."""
    for tag in [tag for tag in ds.keys() if tag.group == GROUP]:  # noqa: SIM118 - elements
        del ds[tag]
