"""Records: the identity removed from a header, and its encoding."""

from coverslip.record.model import Element, Inside, Level, Record
from coverslip.record.packing import decode, encode

__all__ = ["Element", "Inside", "Level", "Record", "decode", "encode"]
