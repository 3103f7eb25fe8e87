"""What robust is for, on a real slice; the table of docs/scheme.md is what the code gives."""

import sys
from pathlib import Path

import pytest

from coverslip.scheme.profiles import DEFAULT, FAINT, ROBUST

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sweep():
    pytest.importorskip("coverslip.training.classical")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import sweep
    finally:
        sys.path.pop(0)
    return sweep


@pytest.fixture(scope="module")
def chosen(sweep):
    return {point.profile.name: point for point in sweep.named(sweep.head())}


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


def test_the_table_of_the_page_is_what_the_code_gives(sweep, chosen):
    """PSNR to a tenth of a decibel; codecs of other versions may spoil a module more or less, but not another record."""
    page = (ROOT / "docs" / "scheme.md").read_text()
    block = page[page.index(sweep.BEGIN) : page.index(sweep.END)]
    written = {cells[0]: cells[1:] for cells in ([c.strip() for c in line.strip("|").split("|")] for line in block.splitlines()[3:])}
    for name, point in chosen.items():
        step, own, sixteen, bound, *ways = written[name]
        figures = [float(step), float(own), float(sixteen), float(bound)]
        assert figures == pytest.approx([point.profile.step, point.psnr, point.psnr_sixteen, point.bound], abs=0.11)
        assert [way.split()[1] == "exact" for way in ways] == list(point.exact.values())


def test_the_picture_is_there_and_robust_is_settled_by_the_range(sweep, chosen):
    assert sweep.PICTURE.stat().st_size > 10_000
    assert chosen["robust"].profile == ROBUST.for_span(sweep.head().span)
