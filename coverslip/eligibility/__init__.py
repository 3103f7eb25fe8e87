"""When in doubt, the header: whether the pixels of an instance may carry, as its header tells.

A record that is carried in the header loses nothing, so pixels are touched only where it is
certain that what lies around the body is air. The header rules out what cannot be certain: other
modalities, tiled slices, localizers, maps, projections, colour, objects without pixels. What it
rules out, and why, is one table, `EXCLUSIONS`; ``docs/eligibility.md`` is made from it. A header
cannot show everything: what it lets through must be judged again from the pixels.

Only CT Image, MR Image and their enhanced and legacy converted classes carry in pixels. The header
is read as its source wrote it, before it is de-identified, and a broken value counts as absent.

The same header says how likely it is that text is burned into the pixels (`burned_in`).
"""

from coverslip.eligibility.burned_in import BurnedIn, TextSource, burned_in, text_sources
from coverslip.eligibility.exclusions import EXCLUSIONS, Exclusion, Kind
from coverslip.eligibility.judging import ALLOWABLE, Judgement, describe, judge

__all__ = [
    "ALLOWABLE",
    "EXCLUSIONS",
    "BurnedIn",
    "Exclusion",
    "Judgement",
    "Kind",
    "TextSource",
    "burned_in",
    "describe",
    "judge",
    "text_sources",
]
