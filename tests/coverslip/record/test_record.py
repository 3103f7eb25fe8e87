from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread

from coverslip.deidentification.header import deidentify
from coverslip.dicom.record_views import as_json, as_lines
from coverslip.errors import DamagedMessageError, RecordTooLargeError
from coverslip.fake_patient import write_fake_patient
from coverslip.record import Element, Inside, Level, Record, decode, encode
from coverslip.record.coder import Coder
from coverslip.record.packing import VERSION
from coverslip.record.primer import SAMPLES, TAGS
from tests.paths import pydicom_file

TEXT_VRS = [
    "AE",
    "AS",
    "CS",
    "DA",
    "DS",
    "DT",
    "IS",
    "LO",
    "LT",
    "PN",
    "SH",
    "ST",
    "TM",
    "UC",
    "UI",
    "UR",
    "UT",
]
BINARY_VRS = ["AT", "FD", "FL", "OB", "OW", "SL", "SS", "UL", "UN", "US"]

uids = st.from_regex(r"(0|[1-9][0-9]{0,38})(\.(0|[1-9][0-9]{0,20})){0,4}\x00?", fullmatch=True).map(
    str.encode
)
common = st.sampled_from([b"", b" ", b"\0", b"  ", b"20200101"])
values = st.one_of(st.binary(max_size=40), uids, st.text(max_size=30).map(str.encode), common)
pairs = st.one_of(
    st.sampled_from(TAGS).filter(lambda pair: pair[1] != "SQ"),
    st.tuples(st.integers(0, 0xFFFFFFFF), st.sampled_from(TEXT_VRS + BINARY_VRS)),
)
leaves = st.builds(lambda pair, value: Element(pair[0], pair[1], value), pairs, values)


def ordered(elements: list[Element], gone: set[int], insides: list[Inside]) -> Level:
    by_tag = {element.tag: element for element in elements}
    inside = {(each.tag, each.item): each for each in insides if each.tag not in by_tag}
    free = gone - set(by_tag) - {tag for tag, _ in inside}
    return Level(
        tuple(by_tag[t] for t in sorted(by_tag)),
        tuple(sorted(free)),
        tuple(inside[k] for k in sorted(inside)),
    )


def level_of(deeper: st.SearchStrategy[Level]) -> st.SearchStrategy[Level]:
    sequences = st.builds(
        lambda tag, items: Element(tag, "SQ", tuple(items)),
        st.sampled_from([0x00400275, 0x00081140, 0x12345678]),
        st.lists(deeper, max_size=3),
    )
    inside = st.builds(
        Inside, st.sampled_from([0x00081140, 0x00082112, 0x52009230]), st.integers(0, 300), deeper
    )
    gone = st.sets(st.integers(0, 0xFFFFFFFF), max_size=2)
    return st.builds(
        ordered,
        st.lists(st.one_of(leaves, sequences), max_size=6),
        gone,
        st.lists(inside, max_size=2),
    )


levels = st.recursive(
    st.builds(ordered, st.lists(leaves, max_size=6), st.just(set()), st.just([])),
    level_of,
    max_leaves=4,
)
records = st.builds(Record, levels, levels)


@pytest.mark.slow
@given(records)
@settings(max_examples=40, deadline=None)
def test_every_record_comes_back(record: Record) -> None:
    assert decode(encode(record)) == record


@given(st.binary(max_size=60))
@settings(max_examples=40, deadline=None)
def test_any_bytes_decode_to_a_record_or_are_damaged(state: bytes) -> None:
    try:
        decoded: object = decode(bytes([VERSION]) + state, most_symbols=300)
    except DamagedMessageError as error:
        decoded = error
    assert isinstance(decoded, (Record, DamagedMessageError))


def test_random_bytes_are_damaged() -> None:
    random = np.random.default_rng(11)
    for size in (1, 20, 60, 300):
        with pytest.raises(DamagedMessageError):
            decode(bytes([VERSION]) + random.bytes(size), most_symbols=300)


def test_a_record_cut_short_or_with_more_behind_it_is_damaged() -> None:
    encoded = encode(Record(Level((Element(0x00100010, "PN", b"Invented^Patient"),))))
    for wrong in (encoded[:-1], encoded[:-4], encoded + b"\1"):
        with pytest.raises(DamagedMessageError):
            decode(wrong, most_symbols=300)


def test_the_encoding_of_version_1_is_frozen() -> None:
    record = Record(
        Level(
            (
                Element(0x00100010, "PN", b"Invented^Patient"),
                Element(0x00100020, "LO", b"INV-000042"),
            )
        ),
        Level((Element(0x00020016, "AE", b"NOWHERE "),)),
    )
    assert encode(record).hex() == "010ba49f6ea1fac9d701c39c22e5ca863265f2e2a05f7fc6f09afccefe"
    assert decode(encode(record)) == record


def test_another_version_is_refused() -> None:
    with pytest.raises(DamagedMessageError, match="newer release"):
        decode(bytes([VERSION + 1, 0, 0]))
    with pytest.raises(DamagedMessageError):
        decode(b"")


def test_decoding_stops_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(Level((Element(0x00104000, "LT", b"ab" * 200),)))
    encoded = encode(record)
    assert decode(encoded) == record
    calls = []
    plain = Coder.plain

    def count(coder: Coder, parts: NDArray[np.int64], value: int = 0) -> int:
        calls.append(value)
        return plain(coder, parts, value)

    monkeypatch.setattr(Coder, "plain", count)
    with pytest.raises(DamagedMessageError):
        decode(encoded, most_symbols=300)
    assert len(calls) == 301


def test_sequences_deeper_than_can_be_coded_are_too_large() -> None:
    level = Level()
    for _ in range(40):
        level = Level((Element(0x00400275, "SQ", (level,)),))
    with pytest.raises(RecordTooLargeError):
        encode(Record(level))


def test_the_primer_is_well_formed() -> None:
    assert len({tag for tag, _ in TAGS}) == len(TAGS)
    for sample in SAMPLES:
        assert decode(encode(sample)) == sample and len(sample) > 5


def test_a_repeated_value_costs_next_to_nothing() -> None:
    name = b"Nobody^Nemo^^Dr. med. habil."
    one = Record(Level((Element(0x00080090, "PN", name),)))
    two = Record(Level((Element(0x00080090, "PN", name), Element(0x00081050, "PN", name))))
    assert len(encode(two)) - len(encode(one)) <= 4


@pytest.mark.parametrize("file", ["CT_small.dcm", "MR_small.dcm", "J2K_pixelrep_mismatch.dcm"])
def test_a_record_is_little_more_than_half_of_what_zlib_makes_of_it(file: str) -> None:
    for seed in range(3):
        ds = dcmread(pydicom_file(file))
        write_fake_patient(ds, seed)
        _, record, _ = deidentify(ds, bytes(32))
        plain = b"".join(
            leaf.tag.to_bytes(4, "little") + len(leaf.value).to_bytes(4, "little") + leaf.value
            for leaf in record.level.leaves()
            if isinstance(leaf.value, bytes)
        )
        assert len(record) >= 40
        assert len(encode(record)) < 400 and len(encode(record)) < 0.6 * len(
            zlib.compress(plain, 9)
        )


def test_a_record_never_shows_itself() -> None:
    record = Record(Level((Element(0x00100010, "PN", b"Nobody^Nemo "),)))
    assert "Nobody" not in repr(record) + str(record)


def test_a_record_reads_as_dicom_json_and_as_lines() -> None:
    item = Level((Element(0x00100010, "PN", "Müller^Niemand ".encode("latin-1")),))
    record = Record(
        Level(
            (
                Element(0x00080005, "CS", b"ISO_IR 100"),
                Element(0x00100010, "PN", "Müller^Niemand ".encode("latin-1")),
            ),
            (),
            (Inside(0x00081140, 1, item),),
        )
    )
    assert as_json(record)["00100010"]["Value"] == [{"Alphabetic": "Müller^Niemand"}]
    assert as_lines(record)[1:] == [
        "Referenced Image Sequence [1]",
        "    Patient's Name: Müller^Niemand",
        "Patient's Name: Müller^Niemand",
    ]
    assert len(record) == 3
