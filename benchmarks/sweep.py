"""Measures PSNR and module error for each step, coefficient set, number of votes and alpha.

Draws docs/sweep.png and writes the table of docs/scheme.md. It embeds a fixed record and key into a
real head CT that comes with pydicom, around a classical outline, so the results are reproducible.
``--data`` uses slices of ../shared/data instead, and only prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from disturb import CROPS, LISTED, Disturbance
from numpy.typing import NDArray
from page import ROOT, SCHEME, write_block
from pydicom.data import get_testdata_file
from rich.progress import track
from scipy.optimize import brentq

from coverslip.dicom.instance import read_instance
from coverslip.errors import DamagedMessageError
from coverslip.pipeline import read_votes
from coverslip.qr import symbol as symbols
from coverslip.scheme import address
from coverslip.scheme.carriers import allowed_blocks, near_blocks, touched_blocks
from coverslip.scheme.dct import SIDE
from coverslip.scheme.dither import dither_key, dither_plane
from coverslip.scheme.phases import phase_plane
from coverslip.scheme.profiles import DEFAULT, FAINT, LOW_FOUR, LOW_SIX, ROBUST, Profile
from coverslip.scheme.quantise import embed_plane
from coverslip.scheme.reader import Reader
from coverslip.scheme.reference import measure_plane
from coverslip_training.classical import outline

PICTURE = ROOT / "docs" / "sweep.png"
SEALED = 400
"""Number of sealed bytes: about 50 attributes of identity."""

KEY = dither_key(bytes(range(32)))
SETS: dict[str, Profile] = {
    "all 16": DEFAULT,
    "lowest 10, turned, level Q": replace(ROBUST, span_share=0.0),
    "lowest 6": replace(DEFAULT, coefficients=LOW_SIX),
    "lowest 4": replace(DEFAULT, coefficients=LOW_FOUR),
}
STEPS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 362.0, 512.0)
VOTES = (1, 3, 8)
ALPHAS = (0.05, 0.1, 0.15, 0.2)
SHOWN = {name: way for name, way in LISTED.items() if name not in CROPS}
LEAST_ERROR = 1e-4
"""Share of wrong modules that is drawn in place of 0."""


@dataclass(frozen=True)
class Cover:
    """A slice to embed into.

    Attributes
    ----------
    pixels : int32 [H, W]
    legal : (lo, hi)
    mask : uint8 [H, W]
    padding : int
    """

    pixels: NDArray[np.int32]
    legal: tuple[int, int]
    mask: NDArray[np.uint8]
    padding: int

    @property
    def span(self) -> int:
        """Highest pixel minus lowest pixel."""
        return int(self.pixels.max()) - int(self.pixels.min())


@dataclass(frozen=True)
class Point:
    """Results of one choice of parameters on one slice.

    Attributes
    ----------
    profile : Profile
    psnr : float
        dB, peak: the image's own range.
    psnr_sixteen : float
        dB, peak: 65535.
    bound : float
        dB, peak: 65535; `ternary_bound` for as many bits as coefficients that carry.
    errors : dict
        Share of wrong modules after each disturbance; 0.5 if no symbol is found.
    exact : dict
        Whether the record came back after each disturbance.
    """

    profile: Profile
    psnr: float
    psnr_sixteen: float
    bound: float
    errors: dict[str, float]
    exact: dict[str, bool]


def head() -> Cover:
    """Read a real 512 x 512 head CT that comes with pydicom."""
    instance = read_instance(
        Path(str(get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False)))
    )
    pixels = instance.planes[0]
    return Cover(pixels, instance.legal, outline(pixels), instance.legal[0] - 1)


def ternary_bound(bits: float, pixels: int) -> float:
    """Highest PSNR (peak 65535) of any scheme that changes pixels by at most one grey level.

    A share q of the pixels changes, with H(q) + q = bits / pixels, so the MSE is q.
    """
    wanted = bits / pixels

    def short(rate: float) -> float:
        return float(-rate * np.log2(rate) - (1 - rate) * np.log2(1 - rate) + rate - wanted)

    if wanted >= short(2 / 3) + wanted:
        return float("nan")
    return float(10 * np.log10(65535**2 / brentq(short, 1e-12, 2 / 3)))


def embed(
    cover: Cover, profile: Profile, symbol: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], int]:
    """Embed a symbol; return the stego plane and the number of coefficients that carry.

    If the profile allows it, the variant that reaches most slots is used.
    """
    rows, cols = (side // SIDE for side in cover.pixels.shape)
    allowed = allowed_blocks(cover.pixels, cover.mask, cover.legal, cover.padding, profile.margin)
    slots = address.slot_count(len(symbol), len(profile.coefficients))
    reached = [
        np.unique(address.slot_plane(rows, cols, slots, v)[allowed]).size
        for v in range(address.VARIANTS)
    ]
    variant = int(np.argmax(reached)) if profile.best_variant else 0
    plane = phase_plane(symbol, dither_plane(KEY, rows, cols), profile, variant)
    carries = np.zeros(16, np.float32)
    carries[list(profile.coefficients)] = 1
    near = near_blocks(touched_blocks(cover.mask, profile.margin))
    stego, carriers = embed_plane(
        cover.pixels,
        allowed,
        near,
        plane.phases,
        plane.slots,
        carries,
        profile.step,
        profile.votes,
        cover.legal,
    )
    return stego, int(carriers.sum()) * len(profile.coefficients)


def read(
    pixels: NDArray[np.int32], profile: Profile, symbol: NDArray[np.bool_], frame: bytes
) -> tuple[float, bool]:
    """Read a plane; return the share of wrong modules and whether the record came back."""
    phases = measure_plane(pixels, profile.step)
    votes = Reader(phases, dither_plane(KEY, *phases.shape[:2]), profile).find()
    if votes is None or votes.modules.shape != symbol.shape:
        return 0.5, False
    try:
        exact = read_votes(votes) == frame
    except DamagedMessageError:
        exact = False
    return float(np.mean(votes.symbol() != symbol)), exact


def tried(cover: Cover, profile: Profile, ways: dict[str, Disturbance]) -> Point:
    """Measure one choice of parameters on one slice."""
    frame = np.random.default_rng(7).bytes(SEALED)
    symbol = symbols.draw(frame, symbols.level_for(len(frame), profile.levels))
    profile = profile.for_span(cover.span)
    stego, bits = embed(cover, profile, symbol)
    error = max(float(np.mean((stego - cover.pixels).astype(np.float64) ** 2)), 1e-9)
    results = {
        name: read(way(stego, cover.legal, np.random.default_rng(1)), profile, symbol, frame)
        for name, way in ways.items()
    }
    return Point(
        profile,
        10 * np.log10(cover.span**2 / error),
        10 * np.log10(65535**2 / error),
        ternary_bound(bits, cover.pixels.size),
        {name: wrong for name, (wrong, _) in results.items()},
        {name: exact for name, (_, exact) in results.items()},
    )


def grid() -> Iterator[tuple[str, Profile]]:
    """Yield the label of every curve with the profile of each of its points."""
    for label, profile in SETS.items():
        for votes in VOTES:
            for step in STEPS:
                yield f"{label}; {votes} votes", replace(profile, name="", step=step, votes=votes)
    for alpha in ALPHAS:
        for step in STEPS[1:7]:
            yield (
                f"all 16; 3 votes; alpha {alpha:g}",
                replace(DEFAULT, name="", step=step, alpha=alpha),
            )


def named(cover: Cover) -> list[Point]:
    """Measure the released profiles."""
    return [tried(cover, profile, SHOWN) for profile in (FAINT, DEFAULT, ROBUST)]


def curve_style(label: str) -> dict[str, Any]:
    """Line style, colour, order and legend entry of a curve; other alphas share one entry."""
    kind, votes = label.split("; ")[:2]
    if "alpha" in label:
        first = label.endswith(f"alpha {ALPHAS[0]:g}")
        entry = "other alphas" if first else f"_{label}"
        return {"linestyle": "-", "color": "lightgrey", "zorder": 1, "label": entry}
    colours = dict(zip(SETS, ("tab:blue", "tab:red", "tab:orange", "tab:green"), strict=True))
    styles = dict(zip(VOTES, (":", "--", "-"), strict=True))
    style = styles[int(votes.split()[0])]
    return {"linestyle": style, "color": colours[kind], "zorder": 2, "label": label}


def draw(curves: dict[str, list[Point]], chosen: Sequence[Point], path: Path) -> None:
    """Draw a panel for each disturbance, PSNR to the right and errors upwards."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, -(-len(SHOWN) // 2), figsize=(17, 8), sharex=True, sharey=True)
    for panel, way in zip(panels.flat, SHOWN, strict=False):
        for label, points in curves.items():
            panel.plot(
                [p.psnr for p in points],
                [max(p.errors[way], LEAST_ERROR) for p in points],
                linewidth=1,
                **curve_style(label),
            )
        for point in chosen:
            height = max(point.errors[way], LEAST_ERROR)
            panel.plot(point.psnr, height, "k*", markersize=10, zorder=3)
            panel.annotate(
                point.profile.name,
                (point.psnr, height),
                textcoords="offset points",
                xytext=(4, 6),
                fontsize=8,
            )
        panel.set(title=way, yscale="log", ylim=(0.7 * LEAST_ERROR, 0.7))
        panel.grid(alpha=0.3)
    for panel in panels[-1]:
        panel.set_xlabel("PSNR of the stego image, dB (peak: its own range)")
    for panel in panels[:, 0]:
        panel.set_ylabel("share of modules wrong")
    for panel in panels.flat[len(SHOWN) :]:
        panel.axis("off")
    panels.flat[-1].legend(
        *panels.flat[0].get_legend_handles_labels(),
        loc="center",
        fontsize=9,
        title="each curve: steps 2 to 512",
    )
    figure.tight_layout()
    figure.savefig(path, dpi=70, metadata={"Software": ""})
    plt.close(figure)


def rows(chosen: Sequence[Point]) -> list[str]:
    """Make the table of the released profiles."""
    columns = ["profile", "step here", "PSNR, own range", "PSNR, 65535", "ternary bound", *SHOWN]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for point in chosen:
        cells = [
            point.profile.name,
            f"{point.profile.step:g}",
            f"{point.psnr:.1f}",
            f"{point.psnr_sixteen:.1f}",
            f"{point.bound:.1f}",
        ]
        cells += [
            f"{point.errors[way]:.2%} {'exact' if point.exact[way] else 'lost'}" for way in SHOWN
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def over_data(limit: int) -> None:
    """Print the mean PSNR and the share of records that come back, on slices of ../shared/data."""
    from evaluate import DATA, slices

    files = [DATA / row["file"] for row in slices(1) if row["split"] == "val"]
    covers = []
    for file in files[:: max(len(files) // limit, 1)]:
        instance = read_instance(file)
        covers.append(
            Cover(
                instance.planes[0],
                instance.legal,
                outline(instance.planes[0]),
                instance.legal[0] - 1,
            )
        )
    for label, profile in [*grid(), *((p.name, p) for p in (FAINT, DEFAULT, ROBUST))]:
        points = [tried(cover, profile, SHOWN) for cover in covers]
        shares = "  ".join(f"{way} {np.mean([p.exact[way] for p in points]):.0%}" for way in SHOWN)
        print(
            f"{label:32} step {profile.step:5g}  PSNR {np.mean([p.psnr for p in points]):5.1f}  "
            f"{shares}",
            flush=True,
        )


def main() -> int:
    """Draw the picture and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", action="store_true", help="use slices of ../shared/data, and only print"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=16,
        help="with --data: approximate number of slices (default: 16)",
    )
    parser.add_argument(
        "--table", action="store_true", help="only write the table, without the picture"
    )
    options = parser.parse_args()
    if options.data:
        over_data(options.limit)
        return 0
    cover = head()
    chosen = named(cover)
    write_block(SCHEME, "sweep", __file__, rows(chosen))
    print("\n".join(rows(chosen)))
    if not options.table:
        curves: dict[str, list[Point]] = {}
        for label, profile in track(list(grid()), disable=not sys.stderr.isatty()):
            curves.setdefault(label, []).append(tried(cover, profile, SHOWN))
        draw(curves, chosen, PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
