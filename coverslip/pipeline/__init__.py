"""The main job: hide the identity of an instance in its background, and give it back to the holder
of the key.
"""

from coverslip.pipeline.embedding import Embedding, EmbedOptions, EmbedReport, embed
from coverslip.pipeline.extraction import (
    Extraction,
    SealedExtraction,
    extract,
    extract_sealed,
    restore,
)
from coverslip.pipeline.planes import Planes, engine_planes, own_span, settle_step
from coverslip.pipeline.reading import (
    check_value,
    open_frame,
    read_cropped,
    read_plane,
    read_votes,
    uid_key,
)
from coverslip.pipeline.surveying import Survey, survey, would_fit

__all__ = [
    "EmbedOptions",
    "EmbedReport",
    "Embedding",
    "Extraction",
    "Planes",
    "SealedExtraction",
    "Survey",
    "check_value",
    "embed",
    "engine_planes",
    "extract",
    "extract_sealed",
    "open_frame",
    "own_span",
    "read_cropped",
    "read_plane",
    "read_votes",
    "restore",
    "settle_step",
    "survey",
    "uid_key",
    "would_fit",
]
