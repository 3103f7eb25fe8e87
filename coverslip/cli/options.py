"""Options that several commands share."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from coverslip.machine import usable_cores
from coverslip.scheme.profiles import PROFILES, Profile

if TYPE_CHECKING:
    from coverslip.engine import Engine
    from coverslip.pipeline import EmbedOptions

ENGINES = ("litert", "tensorflow")


THREADS = 2
"""Of the runtime, where nothing else was asked for and no other process works beside."""


def add_engine(parser: argparse.ArgumentParser, shared: str = "") -> None:
    """--engine, --threads and --model; ``shared`` says how the command settles the threads itself
    where no number is named.
    """
    threads = None if shared else THREADS
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="litert",
        help="runtime of the model (default: %(default)s)",
    )
    text = f"threads of the runtime (default: {shared or THREADS})"
    parser.add_argument("--threads", type=positive, default=threads, metavar="N", help=text)
    parser.add_argument(
        "--model", type=Path, metavar="PATH", help="another model than the released one"
    )


def add_batch_engine(parser: argparse.ArgumentParser) -> None:
    """--jobs, and what `add_engine` adds, for commands that work on many files."""
    add_engine(parser, f"{THREADS}, or 1 with --jobs")
    text = (
        "work on so many files at a time, each in a process of its own with an engine (default: "
        "%(default)s)"
    )
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help=text)


def resolve_threads(arguments: argparse.Namespace) -> None:
    """Give --threads a number where `add_batch_engine` left that open; no more jobs than cores."""
    arguments.jobs = min(arguments.jobs, usable_cores())
    arguments.threads = arguments.threads or (THREADS if arguments.jobs == 1 else 1)


def add_profile(parser: argparse.ArgumentParser, default: str | None) -> None:
    """--profile, --beta and --alpha."""
    text = "choice of step, coefficients and votes" + (
        " (default: %(default)s)" if default else " (default: every one is tried)"
    )
    parser.add_argument("--profile", choices=tuple(PROFILES), default=default, help=text)
    parser.add_argument(
        "--beta",
        type=positive_float,
        metavar="B",
        help="the paper's beta in place of the profile's step: step = 4 (hi - lo) / B",
    )
    parser.add_argument(
        "--alpha",
        type=alpha,
        metavar="A",
        help="place of a 0 between two lattice points, above 0 and below 0.5",
    )


def add_carrying(parser: argparse.ArgumentParser) -> None:
    """What decides where a record is carried, and what is refused."""
    from coverslip.eligibility import ALLOWABLE

    parser.add_argument("--use-padding", action="store_true", help="let pixel padding carry too")
    parser.add_argument(
        "--allow-burned-in",
        action="store_true",
        help="accept images that say, or do not deny, that their pixels show identity",
    )
    parser.add_argument(
        "--require-pixels",
        action="store_true",
        help="refuse what only the header can carry",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=tuple(kind.value for kind in ALLOWABLE),
        metavar="KIND",
        help="let pixels of this kind carry too (again for another): "
        + ", ".join(kind.value for kind in ALLOWABLE),
    )


def embed_options(arguments: argparse.Namespace) -> EmbedOptions:
    """The choices that `add_profile` and `add_carrying` describe."""
    from coverslip.eligibility import Kind
    from coverslip.pipeline import EmbedOptions

    profile = chosen_profile(arguments)
    assert profile is not None
    return EmbedOptions(
        profile,
        beta=arguments.beta,
        use_padding=arguments.use_padding,
        allow_burned_in=arguments.allow_burned_in,
        require_pixels=arguments.require_pixels,
        allow=frozenset(Kind(name) for name in arguments.allow),
    )


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def not_negative(text: str) -> int:
    """A whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def positive_float(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def alpha(text: str) -> float:
    """A number above 0 and below 0.5."""
    value = float(text)
    if not 0 < value < 0.5:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and below 0.5")
    return value


def chosen_profile(arguments: argparse.Namespace) -> Profile | None:
    """The profile that the options describe; None where none was named."""
    if arguments.profile is None:
        return None
    profile = PROFILES[arguments.profile]
    return profile if arguments.alpha is None else replace(profile, alpha=arguments.alpha)


def open_engine(arguments: argparse.Namespace) -> Engine:
    """The engine that the options name."""
    from coverslip.engine import open_engine

    return open_engine(arguments.engine, arguments.model, threads=arguments.threads)
