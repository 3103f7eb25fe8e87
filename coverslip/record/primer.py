"""What the predictor of `coverslip.record.packing` has seen before it starts."""
from coverslip.record.model import Record
TAGS: tuple[tuple[int, str], ...] = ()
ROOTS: tuple[bytes, ...] = (b"2.25.",)
SAMPLES: tuple[Record, ...] = ()
