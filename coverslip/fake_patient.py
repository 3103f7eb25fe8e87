"""An obviously fake identity for a header, for the demonstration, the evaluation and the tests."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta

from pydicom.dataset import Dataset

_SURNAMES = ("Invented", "Madeup", "Fictive", "Imagined", "Nobody")
_NAMES = ("Patient", "Person", "Someone", "Anyone")
_HOSPITALS = (
    "Nowhere General Hospital",
    "Clinic of No Place",
    "Imaginary University Hospital",
    "St. Nobody Infirmary",
)
_STREETS = ("Example Road", "Sample Street", "Placeholder Lane")
_TOWNS = ("Nowhere", "Erewhon", "Utopia", "Neverland")
_EXAMS = {"CT": "CT ABDOMEN PELVIS W CONTRAST", "MR": "MRI BRAIN W/O CONTRAST"}
_ROOT = "1.2.826.0.1.3680043.8.498"
"""The UID root that pydicom lets its users build on."""


def _uid(random_: random.Random) -> str:
    if random_.random() < 0.5:
        return f"2.25.{random_.getrandbits(128)}"
    return f"{_ROOT}.{random_.randrange(10**37, 10**38)}"


def _name(random_: random.Random, number: int, title: str = "") -> str:
    return f"{random_.choice(_SURNAMES)}^{random_.choice(_NAMES)} Nr {number:04d}{title}"


def _request(random_: random.Random, accession: str) -> Dataset:
    item = Dataset()
    item.AccessionNumber = accession
    item.ReferencedStudySequence = []
    item.RequestedProcedureID = f"RP{random_.randrange(10**5):05d}"
    item.RequestedProcedureDescription = "Invented examination"
    item.ScheduledProcedureStepID = f"SPS{random_.randrange(10**5):05d}"
    item.RequestingPhysician = _name(random_, random_.randrange(100), "^^Dr.")
    return item


def _write_person(ds: Dataset, random_: random.Random, number: int, day: date) -> None:
    born = date(1930, 1, 1) + timedelta(days=random_.randrange(29000))
    ds.PatientName = _name(random_, number)
    ds.PatientID = f"INV-{number:06d}"
    ds.IssuerOfPatientID = "NOWHERE"
    ds.PatientBirthDate = born.strftime("%Y%m%d")
    ds.PatientSex = random_.choice("FMO")
    ds.PatientAge = f"{(day - born).days // 365:03d}Y"
    ds.PatientSize = f"1.{random_.randrange(50, 99)}"
    ds.PatientWeight = f"{random_.randrange(45, 110)}"
    ds.OtherPatientIDs = f"X{random_.randrange(10**8):08d}"
    ds.PatientAddress = (
        f"{random_.randrange(1, 200)} {random_.choice(_STREETS)}, {random_.choice(_TOWNS)}"
    )
    ds.PatientTelephoneNumbers = f"555-01{random_.randrange(100):02d}"
    ds.PatientComments = "invented, belongs to nobody"


def _write_study(ds: Dataset, random_: random.Random, start: datetime) -> None:
    accession = f"A{random_.randrange(10**9):09d}"
    hospital = random_.choice(_HOSPITALS)
    at = start
    for keyword in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{keyword}Date", at.strftime("%Y%m%d"))
        setattr(ds, f"{keyword}Time", at.strftime("%H%M%S"))
        at += timedelta(seconds=random_.randrange(20, 200))
    ds.AccessionNumber = accession
    ds.StudyID = f"{random_.randrange(10**5)}"
    ds.InstitutionName = hospital
    ds.InstitutionAddress = (
        f"{random_.randrange(1, 200)} {random_.choice(_STREETS)}, {random_.choice(_TOWNS)}"
    )
    ds.InstitutionalDepartmentName = "Radiology"
    ds.StationName = f"{ds.get('Modality', 'CT')}{random_.randrange(1, 9)}"
    ds.ReferringPhysicianName = _name(random_, random_.randrange(100), "^^Dr.")
    ds.PerformingPhysicianName = _name(random_, random_.randrange(100), "^^Dr.")
    ds.OperatorsName = _name(random_, random_.randrange(100))
    ds.StudyDescription = _EXAMS.get(str(ds.get("Modality")), "INVENTED EXAMINATION")
    ds.SeriesDescription = "Invented series"
    ds.ProtocolName = "Invented protocol"
    ds.DeviceSerialNumber = f"{random_.randrange(10**5):05d}"
    ds.RequestAttributesSequence = [_request(random_, accession)]


def write_fake_patient(ds: Dataset, seed: int) -> None:
    """Write a fake patient, study and device into a header.

    Parameters
    ----------
    ds : Dataset
        Changed in place, file meta information included if there is any.
    seed : int
        Equal seeds write equal identities.
    """
    random_ = random.Random(seed)  # noqa: S311 - a fake identity is no secret
    start = datetime(2019, 1, 1) + timedelta(minutes=random_.randrange(3_000_000))
    # Headers from archives claim to be de-identified; this one is to hold an identity.
    for keyword in (
        "PatientIdentityRemoved",
        "DeidentificationMethod",
        "DeidentificationMethodCodeSequence",
    ):
        if keyword in ds:
            del ds[keyword]
    _write_person(ds, random_, seed % 10000, start.date())
    _write_study(ds, random_, start)
    for keyword in (
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "SOPInstanceUID",
    ):
        setattr(ds, keyword, _uid(random_))
    if hasattr(ds, "file_meta"):
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
