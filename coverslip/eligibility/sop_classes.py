"""SOP classes by what their pixels show, and transfer syntaxes that lose nothing.

Classes that have members of their own are named by the end of their UID.
"""

from __future__ import annotations

STORAGE = "1.2.840.10008.5.1.4.1.1."
CT = frozenset(STORAGE + end for end in ("2", "2.1", "2.2"))
MR = frozenset(STORAGE + end for end in ("4", "4.1", "4.4"))
ENHANCED = frozenset(STORAGE + end for end in ("2.1", "2.2", "4.1", "4.4"))
CARRYING = CT | MR
"""SOP classes whose pixels carry unless the header says something against it."""

SECONDARY_CAPTURE = ("7",)
ULTRASOUND = ("3", "6")
FLUOROSCOPY = ("12",)
RADIOGRAPH = ("1", "12", "13.1.3", "13.1.4", "13.1.5", "481.1", "481.23", "481.24")
NUCLEAR = ("5", "20", "128", "130")
PHOTOGRAPH = ("14", "77", "81", "82")
LABEL_MAP = ("66.4", "66.5", "66.7", "66.8")
DOSE = ("481.2",)
PARAMETRIC_MAP = ("30",)
DOCUMENT = ("104",)
NAMED_CLASSES = (
    *SECONDARY_CAPTURE,
    *ULTRASOUND,
    *RADIOGRAPH,
    *NUCLEAR,
    *PHOTOGRAPH,
    *LABEL_MAP,
    *DOSE,
    *PARAMETRIC_MAP,
)
"""Classes that have an exclusion of their own: these, and those whose UID continues them."""

LOSSLESS = frozenset(
    "1.2.840.10008.1.2" + end
    for end in (
        "",  # implicit little endian
        ".1",  # explicit little endian
        ".1.99",  # deflated
        ".2",  # explicit big endian
        ".4.57",  # JPEG lossless, any selection value
        ".4.70",  # JPEG lossless, selection value 1
        ".4.80",  # JPEG-LS lossless
        ".4.90",  # JPEG 2000 lossless
        ".4.201",  # High-Throughput JPEG 2000 lossless
        ".4.202",  # the same with RPCL progression
        ".5",  # RLE
    )
)
"""Transfer syntaxes whose pixels can be decoded and written again without loss."""
