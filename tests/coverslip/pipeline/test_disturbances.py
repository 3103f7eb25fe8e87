"""What robust is for, on a real slice; the table of docs/scheme.md is what the code gives."""

import importlib
import sys

import numpy as np
import pytest

from coverslip.scheme.profiles import DEFAULT, FAINT, ROBUST
from tests.paths import ROOT


def benchmark(name):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def sweep():
    pytest.importorskip("coverslip_training.classical")
    return benchmark("sweep")


@pytest.fixture(scope="module")
def page():
    return benchmark("page")


@pytest.fixture(scope="module")
def chosen(sweep):
    return {point.profile.name: point for point in sweep.named(sweep.head())}


@pytest.mark.slow
def test_robust_comes_back_after_everything_it_is_for(sweep, chosen):
    assert len(sweep.SHOWN) >= 7
    assert chosen["robust"].exact == dict.fromkeys(sweep.SHOWN, True)


def test_the_others_come_back_untouched_and_do_not_pretend_more(chosen):
    for profile in (FAINT, DEFAULT):
        assert chosen[profile.name].exact["nothing"]
        assert not chosen[profile.name].exact["JPEG, quality 75"]


def test_faint_is_within_12_db_of_the_ternary_bound(chosen):
    point = chosen["faint"]
    assert point.bound - 12 < point.psnr_sixteen < point.bound


def test_the_ternary_bound_is_that_of_the_literature(sweep):
    assert sweep.ternary_bound(8126, 512 * 512) == pytest.approx(121.6, abs=0.3)
    assert sweep.ternary_bound(800, 512 * 512) == pytest.approx(133.2, abs=0.3)


def test_the_table_of_the_page_is_what_the_code_gives(sweep, page, chosen):
    """PSNR to a tenth of a decibel; codecs of other versions may spoil a module more or less, but
    not another record.
    """
    block = page.read_block(page.SCHEME, "sweep", sweep.__file__)
    written = {
        cells[0]: cells[1:]
        for cells in ([c.strip() for c in line.strip("|").split("|")] for line in block[2:])
    }
    for name, point in chosen.items():
        step, own, sixteen, bound, *ways = written[name]
        figures = [float(step), float(own), float(sixteen), float(bound)]
        assert figures == pytest.approx(
            [point.profile.step, point.psnr, point.psnr_sixteen, point.bound], abs=0.11
        )
        assert [way.split()[1] == "exact" for way in ways] == list(point.exact.values())


def test_the_picture_is_there_and_robust_is_settled_by_the_range(sweep, chosen):
    assert sweep.PICTURE.stat().st_size > 10_000
    assert chosen["robust"].profile == ROBUST.for_span(sweep.head().span)


def test_a_block_of_a_page_is_replaced_and_nothing_else(page, tmp_path):
    text = (
        "before\n<!-- kinds: written by benchmarks/some.py -->\nold\n<!-- end of kinds -->\nafter\n"
    )
    (tmp_path / "page.md").write_text(text)
    page.write_block(tmp_path / "page.md", "kinds", "/any/where/some.py", [r"| \1 |", "new"])
    assert page.read_block(tmp_path / "page.md", "kinds", "some.py") == [r"| \1 |", "new"]
    assert (tmp_path / "page.md").read_text() == text.replace("old\n", "| \\1 |\nnew\n")
    with pytest.raises(ValueError, match="no block 'others'"):
        page.write_block(tmp_path / "page.md", "others", "some.py", [])


def test_a_crop_takes_something_off_every_edge_and_no_more_than_its_share(sweep):
    disturb = benchmark("disturb")
    plane = np.arange(100 * 60, dtype=np.int32).reshape(100, 60)
    for seed in range(20):
        rows, cols = disturb.edges(0.12, plane.shape, np.random.default_rng(seed))
        assert (
            1 <= rows.start <= 12
            and 88 <= rows.stop <= 99
            and 1 <= cols.start <= 7
            and 53 <= cols.stop <= 59
        )
        cropped = disturb.cropping(0.12)(plane, (0, 9999), np.random.default_rng(seed))
        np.testing.assert_array_equal(cropped, plane[rows, cols])
