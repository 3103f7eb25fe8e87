"""Units of size."""

MIB = 1 << 20
