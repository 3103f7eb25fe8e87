"""Whether originals come back: every slice embedded, read, restored, and compared.

``python benchmarks/originals.py`` prints what docs/eligibility.md and the release notes are from.
It writes a fake patient into each slice of ``../shared/data/slices``, embeds with profile
``default``, reads without the network, restores, and compares bytes, data set and pixels; removes
the private block and reads the identity alone; and counts changed pixels under the labels. With
``--transplants N``, for all ordered pairs of N slices of a modality, the carriers of one stego
slice are copied into the other (of the same size), its header part kept and removed, and its
private block is moved: each must be reported as changed, and nothing restored.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from page import ROOT
from PIL import Image
from pydicom import dcmread

from coverslip import pipeline
from coverslip.crypto.keys import Identity
from coverslip.deidentification.mark import GROUP, read_sealed_part, remove_mark
from coverslip.dicom.instance import read_instance, write_instance
from coverslip.dicom.objects import read_object
from coverslip.engine import Engine, open_engine
from coverslip.errors import ChangedError, CoverslipError
from coverslip.fake_patient import write_fake_patient
from coverslip.scheme.dct import block_view
from coverslip.scheme.profiles import PROFILES

DATA = ROOT.parent / "shared" / "data"
IDENTITY = Identity(bytes(range(32)))
"""Protects nothing but fake patients."""


@dataclass
class SliceResult:
    """What came of one slice.

    Attributes
    ----------
    carried : str
        ``pixels``, ``header`` or the code of a refusal.
    reason : str
        Why not in the pixels.
    header_bytes, flat, carriers, body_changed : int
        ``flat``: carriers whose cover is of one value.
    psnr : float
        Peak of the stored bits.
    binding, restored_as, alone : str
        ``alone``: the binding that is read after the private block was removed.
    same_bytes : bool
        The restored file is the original's, byte for byte.
    wrong : list of str
        What did not come back.
    """

    carried: str = ""
    reason: str = ""
    header_bytes: int = 0
    flat: int = 0
    carriers: int = 0
    body_changed: int = 0
    psnr: float = 0.0
    binding: str = ""
    restored_as: str = ""
    same_bytes: bool = False
    alone: str = ""
    wrong: list[str] = field(default_factory=list)


_engines: list[Engine] = []


def engine() -> Engine:
    """The engine of this process."""
    if not _engines:
        _engines.append(open_engine(threads=1))
    return _engines[0]


def embed_slice(
    source: Path, folder: Path, profile: str, seed: int
) -> tuple[Path, Path, pipeline.EmbedReport]:
    """Write a cover with a fake patient, and its stego file; both paths, and the report."""
    cover, stego = folder / f"{source.stem}-cover.dcm", folder / f"{source.stem}-stego.dcm"
    dataset = dcmread(source)
    write_fake_patient(dataset, seed=seed)
    dataset.save_as(cover)
    options = pipeline.EmbedOptions(PROFILES[profile], allow_burned_in=True)
    done = pipeline.embed(read_object(cover), IDENTITY.recipient, engine(), options)
    done.write(stego)
    return cover, stego, done.report


def work(source: Path, profile: str) -> SliceResult:
    """Everything that is measured of one slice."""
    result = SliceResult()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            seed = int(source.stem, 36) % 9999
            cover, stego, report = embed_slice(source, folder, profile, seed)
        except CoverslipError as error:
            result.carried = error.code
            return result
        result.reason = next((reason.code for reason in report.header_reasons), "")
        _compare(result, cover, stego, folder)
        label = DATA / "labels" / f"{source.stem}.png"
        if label.is_file() and source.parent.name == "slices":
            body = np.asarray(Image.open(label).convert("L")) > 0
            changed = read_instance(cover).planes[0] != read_instance(stego).planes[0]
            result.body_changed = int((changed & body).sum())
    return result


def _compare(result: SliceResult, cover: Path, stego: Path, folder: Path) -> None:
    original, written = dcmread(cover), read_object(stego)
    found = pipeline.extract(written, IDENTITY)
    result.carried, result.binding = found.carried.value, found.binding.value
    if found.part is not None:
        result.header_bytes = len(found.part.head) and len(read_sealed_part(written.dataset))
    restoration = pipeline.restore(written, found, IDENTITY.recipient)
    result.restored_as = restoration.restored_as.value
    restored = folder / "restored.dcm"
    restoration.write(restored)
    result.same_bytes = restored.read_bytes() == cover.read_bytes()
    if result.restored_as == pipeline.RestoredAs.ORIGINAL_FILE.value and not result.same_bytes:
        result.wrong.append("bytes")
    again = dcmread(restored)
    keys = [e.tag for e in original if e.tag != 0x7FE00010 and again.get(e.tag) != e]
    if keys or len(original) != len(again):
        result.wrong.append("data set")
    if written.image is not None:
        _compare_pixels(result, cover, stego, restored)
    bare = dcmread(stego)
    remove_mark(bare)
    bare.save_as(folder / "bare.dcm")
    if found.carried is pipeline.Carried.PIXELS:
        alone = pipeline.extract(read_object(folder / "bare.dcm"), IDENTITY)
        result.alone = alone.binding.value
        same = alone.carried is found.carried and alone.record == found.record
        if not same or alone.binding is not pipeline.Binding.VERIFIED:
            result.wrong.append("identity alone")


def _compare_pixels(result: SliceResult, cover: Path, stego: Path, restored: Path) -> None:
    planes, changed = read_instance(cover).planes, read_instance(stego).planes
    if not np.array_equal(planes, read_instance(restored).planes):
        result.wrong.append("pixels")
    blocks = block_view(planes[0])
    touched = (blocks != block_view(changed[0])).any(axis=(2, 3))
    flat = blocks.max(axis=(2, 3)) == blocks.min(axis=(2, 3))
    result.carriers, result.flat = int(touched.sum()), int((touched & flat).sum())
    error = float(np.mean((planes - changed).astype(np.float64) ** 2))
    lo, hi = read_instance(cover).legal
    result.psnr = float("inf") if not error else float(10 * np.log10((hi - lo) ** 2 / error))


@dataclass(frozen=True)
class Pair:
    """A cover and its stego file."""

    cover: Path
    stego: Path


ATTACKS = ("carriers", "carriers, header part removed", "private block")


def transplant(donor: Pair, targets: list[Pair]) -> Counter[str]:
    """Attack every target with a donor: tries, beliefs and restorations by kind of attack."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        forged = Path(name) / "forged.dcm"
        for target in targets:
            if target == donor:
                continue
            for attack in ATTACKS:
                if _forge(attack, donor, target, forged):
                    counts[f"{attack}: tried"] += 1
                    counts.update(f"{attack}: {fault}" for fault in _faults(forged))
    return counts


def _forge(attack: str, donor: Pair, target: Pair, forged: Path) -> bool:
    """Write an attacked file; False where the target cannot hold what is to be copied."""
    ds = dcmread(target.stego)
    if attack == "private block":
        remove_mark(ds)
        for element in dcmread(donor.stego).group_dataset(GROUP):
            ds[element.tag] = element
        ds.save_as(forged)
        return True
    planes, into = read_instance(donor.stego).planes, read_instance(target.stego)
    if planes.shape != into.planes.shape:
        return False
    blocks = block_view(planes[0])
    carriers = (block_view(read_instance(donor.cover).planes[0]) != blocks).any(axis=(2, 3))
    mixed = into.planes.copy()
    block_view(mixed[0])[carriers] = blocks[carriers]
    if attack != "carriers":
        remove_mark(ds)
    try:
        write_instance(into.with_dataset(ds), mixed, forged, overwrite=True)
    except ValueError:
        return False  # The target cannot hold such values.
    return True


def _faults(forged: Path) -> list[str]:
    """What an attacked file was wrongly believed to be."""
    source = read_object(forged)
    try:
        found = pipeline.extract(source, IDENTITY)
    except CoverslipError:
        return []
    faults = [] if found.binding is pipeline.Binding.CHANGED else ["believed"]
    try:
        pipeline.restore(source, found, IDENTITY.recipient)
    except ChangedError:
        return faults
    return [*faults, "restored"]


def embed_pair(source: Path, folder: Path, seed: int) -> Pair | None:
    """A stego file to attack with; None where the header carries."""
    cover, stego, report = embed_slice(source, folder, "default", seed)
    return Pair(cover, stego) if report.carried is pipeline.Carried.PIXELS else None


def transplants(files: list[Path], pool: ProcessPoolExecutor) -> Counter[str]:
    """Attack each stego slice with each other one."""
    with tempfile.TemporaryDirectory() as name:
        count = len(files)
        made = pool.map(embed_pair, files, [Path(name)] * count, range(count))
        pairs = [pair for pair in made if pair is not None]
        return sum(pool.map(transplant, pairs, [pairs] * len(pairs)), Counter())


def print_table(results: dict[str, SliceResult]) -> None:
    """Print the figures over all slices."""
    values = list(results.values())
    pixels = [r for r in values if r.carried == "pixels"]
    print(f"files {len(values)}: {dict(Counter(r.carried for r in values))}")
    reasons = Counter(r.reason for r in values if r.carried == "header")
    print(f"carried in the header because of: {dict(reasons.most_common())}")
    for carried in ("pixels", "header"):
        group = [r for r in values if r.carried == carried]
        kinds, same = dict(Counter(r.restored_as for r in group)), sum(r.same_bytes for r in group)
        print(f"restored, carried in {carried}: {kinds}, byte for byte {same} of {len(group)}")
    print(f"binding: {dict(Counter(r.binding for r in values))}")
    print(f"identity alone, private block removed: {dict(Counter(r.alone for r in pixels))}")
    wrong = {name: r.wrong for name, r in results.items() if r.wrong}
    touched = [r.body_changed for r in pixels if r.body_changed]
    print(
        f"wrong: {wrong or 0}; body pixels changed: {sum(touched)}, in {len(touched)} of "
        f"{len(pixels)} slices, at most {max(touched, default=0)} in one"
    )
    if pixels:
        sizes = np.percentile([r.header_bytes for r in pixels], (50, 95)).round()
        print(f"sealed header part: median {sizes[0]:.0f}, 95 % {sizes[1]:.0f} bytes")
        share = np.array([r.flat / max(r.carriers, 1) for r in pixels])
        print(
            f"carriers in flat blocks: mean {share.mean():.1%}; above 90 %: {(share > 0.9).sum()}"
        )
        print(f"PSNR, peak of the stored bits: mean {np.mean([r.psnr for r in pixels]):.1f} dB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--folder", default="slices")
    parser.add_argument("--profile", default="default")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file")
    parser.add_argument("--transplants", type=int, default=0, help="slices of each modality")
    arguments = parser.parse_args()
    files = sorted((DATA / arguments.folder).glob("*.dcm"))[:: arguments.every]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        done = pool.map(work, files, [arguments.profile] * len(files))
        results = {path.name: result for path, result in zip(files, done, strict=True)}
        print_table(results)
        if arguments.transplants:
            by_kind: dict[str, list[Path]] = {"CT": [], "MR": []}
            for path in files:
                if results[path.name].carried == "pixels":
                    kind = str(dcmread(path, stop_before_pixels=True).Modality)
                    by_kind[kind].append(path)
            for kind, paths in by_kind.items():
                step = max(len(paths) // arguments.transplants, 1)
                counts = transplants(paths[::step][: arguments.transplants], pool)
                for attack in ATTACKS:
                    tried, believed, restored = (
                        counts[f"{attack}: {what}"] for what in ("tried", "believed", "restored")
                    )
                    print(
                        f"{kind}, {attack} transplanted: {tried} tried, {believed} believed, "
                        f"{restored} restored"
                    )


if __name__ == "__main__":
    main()
