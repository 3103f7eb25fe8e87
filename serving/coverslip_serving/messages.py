"""The core's results and choices as the contract's messages, and back."""

from __future__ import annotations

from collections.abc import Iterable

from coverslip import pipeline
from coverslip.eligibility import ALLOWABLE, Kind
from coverslip.metrics import Psnr
from coverslip.pipeline import Binding, Carried, HeaderReason
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.errors import BadRequestError

_CARRIED: dict[Carried, pb.Carried] = {
    Carried.PIXELS: pb.CARRIED_PIXELS,
    Carried.HEADER: pb.CARRIED_HEADER,
}
_BINDINGS: dict[Binding, pb.Binding] = {
    Binding.VERIFIED: pb.BINDING_VERIFIED,
    Binding.CHANGED: pb.BINDING_CHANGED,
    Binding.NOT_BOUND: pb.BINDING_NOT_BOUND,
}
_CARRIED_BY_NUMBER: dict[int, Carried] = {number: name for name, number in _CARRIED.items()}
_BINDING_BY_NUMBER: dict[int, Binding] = {number: name for name, number in _BINDINGS.items()}
_SAME_FIELDS = (
    "profile",
    "step",
    "frames",
    "frames_carrying",
    "carriers",
    "modules",
    "votes_per_module",
    "weakest_module",
    "module_errors",
    "payload",
    "changed_pixels",
    "record_bytes",
    "sealed_bytes",
    "recorded",
    "dropped",
    "notes",
    "bound",
    "header_bytes",
)
"""Fields of `EmbedReport` that are the same in the core and in the contract."""


def parse_kinds(names: Iterable[str]) -> frozenset[Kind]:
    """The kinds of image whose pixels may carry all the same.

    Raises
    ------
    BadRequestError
        One is unknown, or is never allowed.
    """
    known = {kind.value: kind for kind in ALLOWABLE}
    wanted = [name.value if isinstance(name, Kind) else name for name in names]
    if not known.keys() >= set(wanted):
        raise BadRequestError(
            "options.allow names a kind of image whose pixels never carry, or that is unknown: "
            f"expected some of {', '.join(known)}"
        )
    return frozenset(known[name] for name in wanted)


def carried_number(carried: Carried) -> pb.Carried:
    """The contract's number for where a record is."""
    return _CARRIED[carried]


def parse_carried(number: int) -> Carried:
    """Where a record is; servers that do not say it know pixels alone."""
    return _CARRIED_BY_NUMBER.get(number, Carried.PIXELS)


def binding_number(binding: Binding) -> pb.Binding:
    """The contract's number for whether a record belongs to its instance."""
    return _BINDINGS[binding]


def parse_binding(number: int) -> Binding | None:
    """Whether a record belongs to its instance; None where the server does not say."""
    return _BINDING_BY_NUMBER.get(number)


def psnr_message(psnr: Psnr) -> pb.Psnr:
    """A peak signal-to-noise ratio for the wire."""
    return pb.Psnr(stored=psnr.stored, sixteen_bit=psnr.sixteen_bit, paper=psnr.paper)


def reason_messages(reasons: Iterable[HeaderReason]) -> list[pb.HeaderReason]:
    """Why a header carries a record, for the wire."""
    return [pb.HeaderReason(code=reason.code, message=reason.message) for reason in reasons]


def report_message(report: pipeline.EmbedReport) -> pb.EmbedReport:
    """What an embedding did, for the wire."""
    return pb.EmbedReport(
        psnr=psnr_message(report.psnr),
        carried=carried_number(report.carried),
        header_reasons=reason_messages(report.header_reasons),
        **{name: getattr(report, name) for name in _SAME_FIELDS},
    )


def report_figures(report: pb.EmbedReport) -> dict[str, object]:
    """A report as JSON holds it: the keys of `coverslip.pipeline.EmbedReport.as_json`, but for
    ``changed_outside``, which is 0 in whatever a server gives out.
    """
    psnr = report.psnr
    return {
        **{name: getattr(report, name) for name in _SAME_FIELDS},
        "carried": parse_carried(report.carried).value,
        "header_reasons": [
            {"code": reason.code, "message": reason.message} for reason in report.header_reasons
        ],
        "psnr": {"stored": psnr.stored, "sixteen_bit": psnr.sixteen_bit, "paper": psnr.paper},
        "dropped": list(report.dropped),
        "notes": list(report.notes),
    }


def extract_message(found: pipeline.SealedExtraction) -> pb.ExtractResponse:
    """A sealed record that was found, for the wire."""
    return pb.ExtractResponse(
        sealed=found.sealed,
        frame=found.frame,
        profile=found.profile,
        agreement=found.agreement,
        carried=carried_number(found.carried),
    )


def parse_extraction(answer: pb.ExtractResponse) -> pipeline.SealedExtraction:
    """A sealed record that a server found."""
    return pipeline.SealedExtraction(
        sealed=answer.sealed,
        carried=parse_carried(answer.carried),
        frame=answer.frame,
        profile=answer.profile,
        agreement=answer.agreement,
    )


def add_verdict(answer: pb.ExtractResponse, extraction: pipeline.Extraction) -> None:
    """Say in an answer whether an opened record belongs to its instance."""
    answer.binding = binding_number(extraction.binding)
    answer.changes.extend(change.value for change in extraction.changes)


def add_restoration(answer: pb.ExtractResponse, restoration: pipeline.Restoration) -> None:
    """Say in an answer what a restored file is."""
    answer.restored_as = restoration.restored_as.value
    answer.not_original_because.extend(missing.value for missing in restoration.missing)
    answer.refused.extend(restoration.refused)
