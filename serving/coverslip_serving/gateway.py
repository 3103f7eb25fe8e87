"""The gateway: the service, its health and metrics, its ports, and how it starts and stops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from coverslip.errors import CoverslipError, EngineError
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving._stubs.coverslip_pb2_grpc import add_CoverslipServiceServicer_to_server
from coverslip_serving.access import Access
from coverslip_serving.calls import Calls
from coverslip_serving.capacity import Capacity, Limits
from coverslip_serving.credentials import ServerCredentials
from coverslip_serving.log import Log
from coverslip_serving.metrics import Metrics
from coverslip_serving.opening import Opener
from coverslip_serving.service import Service
from coverslip_serving.spool import Spool
from coverslip_serving.workers import Workers

SERVICE: str = pb.DESCRIPTOR.services_by_name["CoverslipService"].full_name
_SPARE_THREADS = 16
"""Threads beside the calls' own: for health, reflection and refusals, which must not wait."""


@dataclass(frozen=True)
class Settings:
    """Settings of a gateway.

    Attributes
    ----------
    address : str
        ``host:port`` of the service; port 0 for any.
    limits : Limits
    access : Access
    tls : ServerCredentials or None
        Plain text if None.
    spool : Path or None
        Folder for instances while they are worked on; the system's for temporary files if None.
    metrics : str
        ``host:port`` for Prometheus, HTTP; empty for none.
    health : str
        ``host:port`` that serves health and nothing else, in plain text; empty for none. Probes
        without certificates need it.
    probe_seconds : float
        Time between two probes of a model server; 0 for a model in process, which is probed until
        it answers once.
    grace : float
        Seconds that calls have to finish when the gateway stops.
    model_version : int
        Version of a model in process; 0 if the engine knows it.
    opener : Opener
        Keys for opening records on this server; needs ``tls`` and an allow-list.
    """

    address: str = "127.0.0.1:50051"
    limits: Limits = field(default_factory=Limits)
    access: Access = field(default_factory=Access)
    tls: ServerCredentials | None = None
    spool: Path | None = None
    metrics: str = ""
    health: str = ""
    probe_seconds: float = 0.0
    grace: float = 30.0
    model_version: int = 0
    opener: Opener = field(default_factory=Opener)

    def __post_init__(self) -> None:
        """Refuse unsafe settings, whoever made them.

        Raises
        ------
        ValueError
            Opened records would go to callers without a certificate.
        """
        if self.opener.identities and (self.tls is None or self.access.clients is None):
            raise ValueError(
                "records are opened for certificates with that right only: an opener needs tls "
                "and an allow-list"
            )


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class Gateway:
    """Serves an engine.

    Parameters
    ----------
    workers : Workers
        Where the engine is.
    settings : Settings
    log : Log
    """

    def __init__(self, workers: Workers, settings: Settings, log: Log) -> None:
        self._workers = workers
        self._settings = settings
        self._log = log
        self.metrics = Metrics()
        self.metrics.watch_retries(lambda: float(workers.retries))
        self._health = health.HealthServicer(
            experimental_non_blocking=True, experimental_thread_pool=futures.ThreadPoolExecutor(2)
        )
        self._calls = Calls(Capacity(settings.limits), settings.access, self.metrics, log)
        self._server = self._build_server()
        self._health_server: grpc.Server | None = None
        self._stop_metrics: Callable[[], None] | None = None
        self._stopping = threading.Event()
        self._probing = threading.Thread(target=self._probe, name="probe", daemon=True)
        self.port = 0
        """Port of the service, once it is started."""
        self.failed: CoverslipError | None = None
        """Why an engine in process never answered."""
        self._publish(ready=False)

    def _build_server(self) -> grpc.Server:
        settings, limits = self._settings, self._settings.limits
        threads = limits.calls + _SPARE_THREADS
        options = [
            ("grpc.max_receive_message_length", limits.message),
            ("grpc.max_send_message_length", -1),
            # Otherwise two gateways could share one port unnoticed.
            ("grpc.so_reuseport", 0),
            # Notice callers that vanished without closing the connection, and end their calls.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ]
        # Beyond this number gRPC itself refuses with RESOURCE_EXHAUSTED; no call waits uncounted.
        server = grpc.server(
            futures.ThreadPoolExecutor(threads), options=options, maximum_concurrent_rpcs=threads
        )
        service = Service(
            self._workers,
            self._calls,
            limits,
            settings.access,
            Spool(settings.spool),
            self.metrics,
            settings.opener,
        )
        add_CoverslipServiceServicer_to_server(service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (
            SERVICE,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        )
        reflection.enable_server_reflection(names, server)
        return server

    def start(self) -> None:
        """Open the ports and begin to probe the model. Calls are refused until it answers.

        Raises
        ------
        RuntimeError, OSError
            A port is taken, or a certificate cannot be read.
        """
        settings = self._settings
        if settings.tls is None:
            self.port = self._server.add_insecure_port(settings.address)
        else:
            self.port = self._server.add_secure_port(settings.address, settings.tls.for_port())
        if settings.health:
            self._start_health_server()
        if settings.metrics:
            host, port = _split(settings.metrics)
            port, self._stop_metrics = self.metrics.serve(host, port)
            self._log.write("listening", address=f"metrics {host}:{port}")
        self._server.start()
        self._log.write(
            "listening",
            address=f"grpc {settings.address.rpartition(':')[0]}:{self.port}",
            engine=self._workers.name,
        )
        self._probing.start()

    def _start_health_server(self) -> None:
        address = self._settings.health
        self._health_server = grpc.server(
            futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)]
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._health_server)
        port = self._health_server.add_insecure_port(address)
        self._health_server.start()
        self._log.write("listening", address=f"health {_split(address)[0]}:{port}")

    def _publish(self, *, ready: bool) -> None:
        """Set readiness in health, metrics, the service and the log."""
        state = (
            health_pb2.HealthCheckResponse.SERVING
            if ready
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", SERVICE):
            self._health.set(name, state)
        self.metrics.ready.set(int(ready))
        if ready != self._calls.ready:
            self._calls.ready = ready
            version = self._workers.version or self._settings.model_version
            self.metrics.model_version.set(version)
            self._log.write(
                "ready" if ready else "not-ready", engine=self._workers.name, model_version=version
            )

    def _probe(self) -> None:
        """Probe a model in process until it answers, a model server until the gateway stops."""
        remote = self._settings.probe_seconds > 0
        while not self._stopping.is_set():
            try:
                self._workers.probe()
            except CoverslipError as error:
                self._probe_failed(error)
            except Exception as error:
                # Runtimes raise errors of their own; readiness must not depend on their kind.
                self._log.unexpected(error)
                self._probe_failed(EngineError("the engine failed; the log says where"))
            else:
                if not self._stopping.is_set():
                    self._publish(ready=True)
                if not remote:
                    return
            if self.failed is not None:
                return
            self._stopping.wait(self._settings.probe_seconds)

    def _probe_failed(self, error: CoverslipError) -> None:
        if not self._stopping.is_set():
            self._publish(ready=False)
        if self._settings.probe_seconds <= 0:
            # A model in process does not recover by itself.
            self.failed = error
            self._log.write("failed", "error", code=error.code, engine=self._workers.name)
            self._server.stop(0)

    def wait(self) -> None:
        """Wait until the server has ended."""
        self._server.wait_for_termination()

    def stop(self) -> None:
        """Take no more calls, finish those that were taken, and close. Further calls do nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._log.write("stopping")
        self._health.enter_graceful_shutdown()
        self._server.stop(self._settings.grace).wait()
        if self._health_server is not None:
            self._health_server.stop(0).wait()
        if self._stop_metrics is not None:
            self._stop_metrics()
        self._workers.close()
        self._log.write("stopped")
