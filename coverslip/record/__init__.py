"""Records: what was taken out of a header, and how it is encoded."""

from coverslip.record.model import Element, Inside, Level, Record
from coverslip.record.packing import decode, encode

__all__ = ["Element", "Inside", "Level", "Record", "decode", "encode"]
