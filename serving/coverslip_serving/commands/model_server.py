"""``coverslip model-server``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from coverslip.cli import options
from coverslip.cli.batch import ALL_DONE, misuse
from coverslip.errors import CoverslipError
from coverslip.models import ModelKind, find_model

if TYPE_CHECKING:
    import grpc


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--listen",
        default="127.0.0.1:8500",
        metavar="HOST:PORT",
        help="address (default: %(default)s)",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--model-base-path",
        type=Path,
        metavar="DIR",
        help="folder of numbered versions (default: the released model's)",
    )
    source.add_argument(
        "--model-config-file", type=Path, metavar="FILE", help="models.config of TensorFlow Serving"
    )
    parser.add_argument(
        "--workers",
        type=options.positive,
        default=8,
        metavar="N",
        help="calls at the same time (default: %(default)s)",
    )
    parser.add_argument(
        "--ssl-config-file",
        type=Path,
        metavar="FILE",
        help="use TLS: ssl_config of TensorFlow Serving",
    )
    parser.add_argument(
        "--plaintext",
        action="store_true",
        help="allow plain text on an address that other machines can reach",
    )


def _build(
    arguments: argparse.Namespace, credentials: grpc.ServerCredentials | None
) -> tuple[grpc.Server, int]:
    from coverslip_serving.model_server import build, config_of, read_config
    from coverslip_serving.saved_models import RefusedError

    try:
        if arguments.model_config_file:
            config = read_config(arguments.model_config_file)
        else:
            config = config_of(arguments.model_base_path or find_model(ModelKind.TENSORFLOW).parent)
        return build(config, arguments.listen, arguments.workers, credentials)
    except RefusedError as error:
        raise ValueError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    try:
        from coverslip_serving.access import is_loopback
        from coverslip_serving.ssl_config import read_ssl_config

        if not (arguments.ssl_config_file or arguments.plaintext or is_loopback(arguments.listen)):
            return misuse(
                "plain text is allowed on loopback only: name an --ssl-config-file, or add "
                "--plaintext if the network is trusted"
            )
        credentials = (
            read_ssl_config(arguments.ssl_config_file) if arguments.ssl_config_file else None
        )
        server, port = _build(arguments, credentials)
    except ModuleNotFoundError as error:
        return misuse(f"{error.name} is not installed; install 'coverslip[model-server]'")
    except CoverslipError as error:
        return misuse(str(error))
    except ValueError as error:
        return misuse(f"the configuration cannot be used: {error}")
    except (OSError, RuntimeError) as error:
        return misuse(
            f"the model server cannot start ({type(error).__name__}): check that files are "
            "readable and the port is free"
        )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    line = {
        "event": "listening",
        "address": f"{arguments.listen.rpartition(':')[0]}:{port}",
        "note": "a stand-in for TensorFlow Serving; not for production",
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
    ended.wait()
    server.stop(10).wait()
    return ALL_DONE
