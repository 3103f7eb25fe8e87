"""Metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from coverslip.pipeline import Binding, Carried

OK = "ok"
"""In place of Coverslip's code, for calls and instances that succeeded."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Counts calls and instances. No label holds anything of a patient or a caller."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._calls = Counter(
            "coverslip_calls", "Calls that ended", ["method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "coverslip_call_seconds",
            "Time of calls",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._bytes = Counter(
            "coverslip_bytes", "Bytes of instances", ["direction"], registry=registry
        )
        self._instances = Counter(
            "coverslip_instances", "Instances that ended", ["method", "code"], registry=registry
        )
        self._carried = Counter(
            "coverslip_carried",
            "Instances embedded, by where they carry their record",
            ["carried"],
            registry=registry,
        )
        self._bindings = Counter(
            "coverslip_binding",
            "Records opened here, by whether they belong to their instance",
            ["binding"],
            registry=registry,
        )
        self._refusals = Counter(
            "coverslip_refusals",
            "Calls and instances that failed, by Coverslip's code",
            ["code"],
            registry=registry,
        )
        self.running = Gauge("coverslip_calls_running", "Calls under way", registry=registry)
        self.ready = Gauge("coverslip_ready", "1 when the model has answered", registry=registry)
        self.model_version = Gauge(
            "coverslip_model_version", "Version of the model that answered last", registry=registry
        )
        self._engine = Histogram(
            "coverslip_engine_seconds",
            "Time of engine calls",
            ["signature"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._retries = Gauge(
            "coverslip_engine_retries",
            "Attempts at calls to the model server after the first",
            registry=registry,
        )

    def watch_retries(self, retries: Callable[[], float]) -> None:
        """Read the number of retries at each scrape."""
        self._retries.set_function(retries)

    def observe_engine(self, signature: str, seconds: float) -> None:
        """Record the time of one engine call, whether it succeeded or failed."""
        self._engine.labels(signature).observe(seconds)

    def call(self, method: str, status: str, seconds: float) -> None:
        """Record the end of a call."""
        self._calls.labels(method, status).inc()
        self._seconds.labels(method).observe(seconds)

    def instance(self, method: str, code: str, received: int, sent: int) -> None:
        """Record the end of an instance; ``code`` is `OK` or Coverslip's."""
        self._instances.labels(method, code).inc()
        self._bytes.labels("in").inc(received)
        self._bytes.labels("out").inc(sent)

    def carried(self, carried: Carried) -> None:
        """Record where an instance that was embedded carries its record."""
        self._carried.labels(carried.value).inc()

    def binding(self, binding: Binding) -> None:
        """Record whether a record that was opened belongs to its instance."""
        self._bindings.labels(binding.value).inc()

    def refusal(self, code: str) -> None:
        """Record that a call or an instance failed."""
        self._refusals.labels(code).inc()

    def serve(self, host: str, port: int) -> tuple[int, Callable[[], None]]:
        """Answer scrapes over HTTP, in a thread.

        Returns
        -------
        port : int
        stop : callable
        """
        server, thread = start_http_server(port, host, registry=self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return int(server.server_port), stop
