"""The main job: hide the identity of an object, and give it back to the holder of the key."""

from coverslip.deidentification.mark import Carried
from coverslip.pipeline.binding import Binding, Change
from coverslip.pipeline.embedding import Embedding, EmbedOptions, embed
from coverslip.pipeline.extraction import (
    Extraction,
    SealedExtraction,
    extract,
    extract_sealed,
    open_sealed,
)
from coverslip.pipeline.planes import Planes, engine_planes, own_span, resolve_step
from coverslip.pipeline.reading import open_frame, read_cropped, read_plane, read_votes, uid_key
from coverslip.pipeline.reports import EmbedReport, HeaderReason
from coverslip.pipeline.restoring import Missing, Restoration, RestoredAs, restore
from coverslip.pipeline.sealing_apart import SealedApart, add_header_part, seal_apart
from coverslip.pipeline.surveying import Survey, survey, would_fit

__all__ = [
    "Binding",
    "Carried",
    "Change",
    "EmbedOptions",
    "EmbedReport",
    "Embedding",
    "Extraction",
    "HeaderReason",
    "Missing",
    "Planes",
    "Restoration",
    "RestoredAs",
    "SealedApart",
    "SealedExtraction",
    "Survey",
    "add_header_part",
    "embed",
    "engine_planes",
    "extract",
    "extract_sealed",
    "open_frame",
    "open_sealed",
    "own_span",
    "read_cropped",
    "read_plane",
    "read_votes",
    "resolve_step",
    "restore",
    "seal_apart",
    "survey",
    "uid_key",
    "would_fit",
]
