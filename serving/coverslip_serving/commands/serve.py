"""``coverslip serve``."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coverslip.cli import options
from coverslip.cli.batch import ALL_DONE, SOME_FAILED, misuse
from coverslip.errors import CoverslipError
from coverslip.machine import usable_cores
from coverslip.models import ModelKind, find_model, latest_version

if TYPE_CHECKING:
    from coverslip.engine import Engine
    from coverslip_serving.gateway import Settings
    from coverslip_serving.workers import Workers

_PROBE_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--listen",
        default="127.0.0.1:50051",
        metavar="HOST:PORT",
        help="address of the service (default: %(default)s)",
    )
    options.add_engine(parser, "the cores, shared by the processes")
    text = (
        "number of worker processes, each with an engine; 0: work in threads of this process "
        "(default: as --parallel; 0 for tensorflow)"
    )
    parser.add_argument("--processes", type=options.not_negative, metavar="N", help=text)
    _add_model_server(parser)
    _add_tls(parser)
    _add_limits(parser)
    parser.add_argument(
        "--spool",
        type=Path,
        metavar="DIR",
        help="folder for instances while they are worked on (default: the system's temporary one)",
    )
    parser.add_argument(
        "--metrics",
        default="",
        metavar="HOST:PORT",
        help="serve metrics for Prometheus there (default: nowhere)",
    )
    parser.add_argument(
        "--health",
        default="",
        metavar="HOST:PORT",
        help="serve gRPC health and nothing else there, in plain text (default: nowhere)",
    )


def _add_model_server(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("TensorFlow Serving")
    group.add_argument(
        "--tf-serving",
        metavar="HOST:PORT",
        help="let this model server run the model, instead of this machine",
    )
    group.add_argument(
        "--tf-serving-label",
        default="stable",
        metavar="LABEL",
        help="version label to ask for (default: %(default)s)",
    )
    text = "longest time for one image, with every attempt (default: %(default)s)"
    group.add_argument(
        "--tf-serving-seconds", type=options.positive_float, default=30.0, metavar="S", help=text
    )
    group.add_argument(
        "--tf-serving-roots",
        type=Path,
        metavar="FILE",
        help="use TLS, and trust model servers that these signed (PEM)",
    )
    group.add_argument(
        "--tf-serving-certificate",
        type=Path,
        metavar="FILE",
        help="the gateway's certificate for it (PEM)",
    )
    group.add_argument(
        "--tf-serving-key", type=Path, metavar="FILE", help="the gateway's key for it (PEM)"
    )


def _add_tls(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who may call")
    group.add_argument(
        "--tls-certificate", type=Path, metavar="FILE", help="the gateway's certificate (PEM)"
    )
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="the gateway's key (PEM)")
    group.add_argument(
        "--tls-client-roots",
        type=Path,
        metavar="FILE",
        help="authorities that sign client certificates (PEM)",
    )
    group.add_argument(
        "--allow",
        type=Path,
        metavar="FILE",
        help="allow-list of certificate names and their rights (JSON)",
    )
    text = (
        "open records for this identity, for clients with the right 'open'; may be repeated; needs "
        "the four files above"
    )
    group.add_argument(
        "--open-with", type=Path, action="append", default=[], metavar="FILE", help=text
    )
    text = (
        "allow plain text on an address that other machines can reach: never outside a trusted "
        "network"
    )
    group.add_argument("--plaintext", action="store_true", help=text)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    whole: dict[str, Any] = {"type": options.positive, "metavar": "N"}
    group.add_argument(
        "--calls", default=32, help="calls at the same time (default: %(default)s)", **whole
    )
    group.add_argument(
        "--parallel",
        default=usable_cores(),
        help="instances worked on at the same time (default: the cores)",
        **whole,
    )
    group.add_argument(
        "--memory-mib",
        default=4096,
        help="for all instances being worked on, as estimated (default: %(default)s)",
        **whole,
    )
    group.add_argument(
        "--message-mib", default=64, help="size of one message (default: %(default)s)", **whole
    )
    group.add_argument(
        "--instance-mib",
        default=1024,
        help="size of one instance in a stream (default: %(default)s)",
        **whole,
    )
    seconds: dict[str, Any] = {"type": options.positive_float, "metavar": "S"}
    group.add_argument(
        "--seconds",
        default=300.0,
        help="longest time for one instance (default: %(default)s)",
        **seconds,
    )
    group.add_argument(
        "--idle",
        default=60.0,
        help="longest time that a stream may send or read nothing (default: %(default)s)",
        **seconds,
    )
    group.add_argument(
        "--grace",
        default=30.0,
        help="time for calls to finish when the gateway stops (default: %(default)s)",
        **seconds,
    )


def _open_engine(arguments: argparse.Namespace) -> Engine:
    if not arguments.tf_serving:
        return options.open_engine(arguments)
    from coverslip_serving.credentials import Credentials
    from coverslip_serving.tf_serving import TfServingEngine

    tls = None
    if arguments.tf_serving_roots:
        tls = Credentials(
            arguments.tf_serving_roots, arguments.tf_serving_certificate, arguments.tf_serving_key
        )
    return TfServingEngine(
        arguments.tf_serving,
        arguments.tf_serving_label,
        timeout=arguments.tf_serving_seconds,
        tls=tls,
    )


def _open_workers(arguments: argparse.Namespace) -> Workers:
    """Processes or threads, as chosen; threads by default for TensorFlow.

    It takes half a gigabyte in each process and has threads of its own.
    """
    from coverslip_serving.process_workers import ProcessWorkers
    from coverslip_serving.workers import ThreadWorkers

    tensorflow = arguments.engine == "tensorflow" and not arguments.tf_serving
    count = arguments.processes
    if count is None:
        count = 0 if tensorflow else arguments.parallel
    if arguments.threads is None:
        arguments.threads = max(usable_cores() // max(count, 1), 1)
    if not count:
        return ThreadWorkers(_open_engine(arguments))
    name = "tf-serving" if arguments.tf_serving else arguments.engine
    return ProcessWorkers(partial(_open_engine, arguments), name, count)


def _version_in_process(arguments: argparse.Namespace) -> int:
    """Version of the model in process; 0 if unknown."""
    if arguments.engine == "tensorflow":
        folder = arguments.model or find_model(ModelKind.TENSORFLOW)
        if not (folder / "saved_model.pb").is_file():
            folder = latest_version(folder) or folder
        return int(folder.name) if folder.name.isdigit() else 0
    record = (arguments.model or find_model(ModelKind.LITERT)).with_name("model.json")
    return int(json.loads(record.read_text()).get("version", 0)) if record.is_file() else 0


class OptionsError(Exception):
    """The options do not go together, or would be unsafe. The message is for the operator."""


def _check_model_server(arguments: argparse.Namespace) -> None:
    own = (arguments.tf_serving_certificate, arguments.tf_serving_key)
    if any((arguments.tf_serving_roots, *own)) and not arguments.tf_serving:
        raise OptionsError(
            "--tf-serving-roots, -certificate and -key are for --tf-serving HOST:PORT: name it too"
        )
    if any(own) and not (all(own) and arguments.tf_serving_roots):
        raise OptionsError(
            "--tf-serving-certificate and --tf-serving-key belong together, and need "
            "--tf-serving-roots: name all three"
        )


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that make no sense or would be unsafe.

    Raises
    ------
    OptionsError
    """
    from coverslip_serving.access import is_loopback

    for name in ("listen", "metrics", "health"):
        address = getattr(arguments, name)
        if address and not address.startswith("unix:") and not address.rpartition(":")[2].isdigit():
            raise OptionsError(f"--{name} {address} is not an address: expected HOST:PORT")
    _check_model_server(arguments)
    files = (
        arguments.tls_certificate,
        arguments.tls_key,
        arguments.tls_client_roots,
        arguments.allow,
    )
    if any(files) and not all(files):
        raise OptionsError(
            "--tls-certificate, --tls-key, --tls-client-roots and --allow belong together: name "
            "all four"
        )
    if arguments.open_with and not all(files):
        raise OptionsError(
            "--open-with hands identities out, to listed certificates only: name the four files "
            "for TLS too, or let clients open records"
        )
    if not any(files) and not arguments.plaintext and not is_loopback(arguments.listen):
        raise OptionsError(
            "plain text is allowed on loopback only: name the four files for TLS, or add "
            "--plaintext if the network is trusted"
        )


def _settings(arguments: argparse.Namespace) -> Settings:
    from coverslip_serving.access import Access
    from coverslip_serving.capacity import Limits
    from coverslip_serving.credentials import ServerCredentials
    from coverslip_serving.gateway import Settings
    from coverslip_serving.opening import Opener
    from coverslip_serving.sizes import MIB

    limits = Limits(
        calls=arguments.calls,
        parallel=arguments.parallel,
        memory=arguments.memory_mib * MIB,
        message=arguments.message_mib * MIB,
        instance=arguments.instance_mib * MIB,
        seconds=arguments.seconds,
        idle=arguments.idle,
    )
    tls = (
        ServerCredentials(arguments.tls_certificate, arguments.tls_key, arguments.tls_client_roots)
        if arguments.tls_certificate
        else None
    )
    return Settings(
        address=arguments.listen,
        limits=limits,
        access=Access.read(arguments.allow) if arguments.allow else Access(),
        tls=tls,
        spool=arguments.spool,
        metrics=arguments.metrics,
        health=arguments.health,
        probe_seconds=_PROBE_SECONDS if arguments.tf_serving else 0.0,
        grace=arguments.grace,
        model_version=0 if arguments.tf_serving else _version_in_process(arguments),
        opener=Opener.read(arguments.open_with),
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    try:
        from coverslip_serving.gateway import Gateway
        from coverslip_serving.log import Log
    except ModuleNotFoundError as error:
        return misuse(f"{error.name} is not installed; install 'coverslip[serving]'")
    try:
        _check(arguments)
        gateway = Gateway(_open_workers(arguments), _settings(arguments), Log())
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        gateway.start()
    except (OptionsError, CoverslipError) as error:
        return misuse(str(error))
    except (OSError, RuntimeError) as error:
        return misuse(
            f"the gateway cannot start ({type(error).__name__}): check that ports are free and "
            "certificates readable"
        )

    def watch() -> None:
        gateway.wait()
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    ended.wait()
    gateway.stop()
    if gateway.failed is not None:
        misuse(str(gateway.failed))
        return SOME_FAILED
    return ALL_DONE
