import numpy as np
import pytest
import qrcode
from hypothesis import given, settings
from hypothesis import strategies as st
from qrcode.util import MODE_ALPHA_NUM, QRData

from coverslip import symbol as symbols
from coverslip.errors import DamagedMessageError, RecordTooLargeError

READERS = [name for name in symbols.READERS if name in symbols.available_readers()]


def test_a_reader_is_installed():
    assert READERS


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("size", [1, 50, 449, 1500, symbols.MAX_FRAME_BYTES])
def test_each_reader_gives_the_frame_back(reader, size):
    import base45

    frame = np.random.default_rng(size).bytes(size)
    texts = symbols.READERS[reader](symbols.picture(symbols.draw(frame)))
    assert [bytes(base45.b45decode(t)) for t in texts] == [frame]


@given(st.integers(1, 900), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_read_undoes_draw(size, seed):
    frame = np.random.default_rng(seed).bytes(size)
    assert symbols.read(symbols.draw(frame)) == frame


def library_version(characters):
    code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_L)
    code.add_data(QRData(b"A" * characters, mode=MODE_ALPHA_NUM))
    return code.best_fit()


def test_the_version_is_the_smallest_that_the_library_would_take():
    changes = [n for n in range(1, symbols.MAX_FRAME_BYTES) if symbols.version_for(n) != symbols.version_for(n + 1)]
    assert len(changes) == 39
    for frame in {1, symbols.MAX_FRAME_BYTES, *changes, *(n + 1 for n in changes)}:
        assert symbols.version_for(frame) == library_version(frame // 2 * 3 + frame % 2 * 2)


def test_a_frame_that_no_symbol_holds_says_how_much_there_is():
    with pytest.raises(RecordTooLargeError, match=str(symbols.MAX_FRAME_BYTES)):
        symbols.draw(bytes(symbols.MAX_FRAME_BYTES + 1))


@pytest.mark.parametrize("version", symbols.VERSIONS)
def test_function_modules_are_those_of_a_drawn_symbol(version):
    code = qrcode.QRCode(
        version=version, error_correction=qrcode.constants.ERROR_CORRECT_L, border=0, mask_pattern=symbols.MASK_PATTERN
    )
    code.add_data("COVERSLIP")
    code.make(fit=False)
    known = symbols.function_modules(version)
    drawn = np.array(code.modules, dtype=bool)
    assert np.array_equal(drawn[known != 0], known[known != 0] > 0)
    assert 0.05 < np.mean(known != 0) < 0.6


def test_a_spoiled_symbol_is_damaged_not_garbage():
    symbol = symbols.draw(bytes(range(200)))
    spoiled = symbol ^ (np.random.default_rng(1).random(symbol.shape) < 0.1)
    with pytest.raises(DamagedMessageError):
        symbols.read(spoiled)
