from __future__ import annotations

import numpy as np
import pytest
import qrcode
from hypothesis import given, settings
from hypothesis import strategies as st
from qrcode.util import MODE_ALPHA_NUM, QRData

from coverslip.errors import DamagedMessageError, RecordTooLargeError
from coverslip.qr import symbol as symbols

READERS = [name for name in symbols.READERS if name in symbols.available_readers()]


def test_a_reader_is_installed() -> None:
    assert READERS


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("size", [1, 50, 449, 1500, symbols.MAX_FRAME_BYTES])
def test_each_reader_gives_the_frame_back(reader: str, size: int) -> None:
    import base45

    frame = np.random.default_rng(size).bytes(size)
    texts = symbols.READERS[reader](symbols.render(symbols.draw(frame)))
    assert [bytes(base45.b45decode(t)) for t in texts] == [frame]


@given(st.integers(1, 900), st.integers(0, 2**32 - 1), st.sampled_from(symbols.ErrorCorrection))
@settings(max_examples=40, deadline=None)
def test_read_undoes_draw(size: int, seed: int, level: symbols.ErrorCorrection) -> None:
    frame = np.random.default_rng(seed).bytes(size)
    assert symbols.read(symbols.draw(frame, level)) == frame


def library_version(characters: int, level: symbols.ErrorCorrection) -> int:
    code = qrcode.QRCode(error_correction=level.value)
    code.add_data(QRData(b"A" * characters, mode=MODE_ALPHA_NUM))
    return int(code.best_fit())


@pytest.mark.parametrize("level", symbols.ErrorCorrection)
def test_the_version_is_the_smallest_that_the_library_would_take(
    level: symbols.ErrorCorrection,
) -> None:
    largest = symbols.largest_frame(level)
    changes = [
        n
        for n in range(1, largest)
        if symbols.version_for(n, level) != symbols.version_for(n + 1, level)
    ]
    assert len(changes) == 39
    for frame in {1, largest, *changes, *(n + 1 for n in changes)}:
        assert symbols.version_for(frame, level) == library_version(
            frame // 2 * 3 + frame % 2 * 2, level
        )


@pytest.mark.parametrize("level", symbols.ErrorCorrection)
def test_the_largest_frame_of_a_level_is_drawn_and_no_larger_one(
    level: symbols.ErrorCorrection,
) -> None:
    largest = symbols.largest_frame(level)
    assert len(symbols.draw(np.random.default_rng(0).bytes(largest), level)) == 177
    with pytest.raises(RecordTooLargeError, match=str(largest)):
        symbols.draw(np.random.default_rng(0).bytes(largest + 1), level)


def test_a_record_too_large_for_the_wanted_level_takes_the_next_one() -> None:
    levels = (symbols.ErrorCorrection.Q, symbols.ErrorCorrection.M, symbols.ErrorCorrection.L)
    largest = [symbols.largest_frame(level) for level in levels]
    assert [symbols.level_for(size, levels) for size in largest] == list(levels)
    assert [symbols.level_for(size + 1, levels) for size in largest[:2]] == list(levels[1:])
    with pytest.raises(RecordTooLargeError, match=str(largest[2])):
        symbols.level_for(largest[2] + 1, levels)


@pytest.mark.parametrize("version", [1, 7, 40])
def test_only_the_format_tells_levels_apart(version: int) -> None:
    drawn = {level: symbols.function_modules(version, level) for level in symbols.ErrorCorrection}
    for level, known in drawn.items():
        assert np.array_equal(known != 0, drawn[symbols.ErrorCorrection.L] != 0)
        assert (
            level is symbols.ErrorCorrection.L
            or 10 <= np.sum(known != drawn[symbols.ErrorCorrection.L]) <= 30
        )


def test_a_frame_that_no_symbol_holds_says_how_much_there_is() -> None:
    with pytest.raises(RecordTooLargeError, match=str(symbols.MAX_FRAME_BYTES)):
        symbols.draw(bytes(symbols.MAX_FRAME_BYTES + 1))


@pytest.mark.parametrize("version", symbols.VERSIONS)
def test_function_modules_are_those_of_a_drawn_symbol(version: int) -> None:
    code = qrcode.QRCode(
        version=version,
        error_correction=qrcode.constants.ERROR_CORRECT_L,
        border=0,
        mask_pattern=symbols.MASK_PATTERN,
    )
    code.add_data("COVERSLIP")
    code.make(fit=False)
    known = symbols.function_modules(version)
    drawn = np.array(code.modules, dtype=bool)
    assert np.array_equal(drawn[known != 0], known[known != 0] > 0)
    assert 0.05 < np.mean(known != 0) < 0.6


def test_a_spoiled_symbol_is_damaged_not_garbage() -> None:
    symbol = symbols.draw(bytes(range(200)))
    spoiled = symbol ^ (np.random.default_rng(1).random(symbol.shape) < 0.1)
    with pytest.raises(DamagedMessageError):
        symbols.read(spoiled)
