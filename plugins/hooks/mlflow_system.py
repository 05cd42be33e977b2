"""The machine's load (CPU, memory, disk, network, GPU) as MLflow's `system/...` metrics, through our own outbox.

MLflow's monitor thread gives up for good when the store fails once, so ours drives its gauges.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from .mlflow_spool import log


class SystemMetrics:
    """Samples at the interval that MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says (10 s).

    Args:
        put: Takes the values by name.
    """

    def __init__(self, put: Callable[[Mapping[str, float]], None]) -> None:
        self._put = put
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, run_id: str, uri: str) -> None:
        """Begin, once the run is there; nothing happens after `stop`, or when it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, args=(run_id, uri), name="dmf-system", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the sampling."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _watch(self, run_id: str, uri: str) -> None:
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            untyped: Any = SystemMetricsMonitor
            gauges = untyped(run_id, tracking_uri=uri)
            gauges.collect_metrics()  # the load of a CPU is counted from the call before: the first one is always 0
            while not self._stop.is_set():
                _clear(gauges)
                self._sample(gauges)
        except Exception as error:  # a driver that goes away must not end the run, nor leave a traceback on the screen
            log.warning("system metrics are no longer watched: %s: %s", type(error).__name__, error)

    def _sample(self, gauges: Any) -> None:
        """Watch for one interval, and pass its averages on unless it was cut short."""
        prefix = f"system/{gauges.node_id}/" if gauges.node_id else "system/"
        for _ in range(gauges.samples_before_logging):
            if self._stop.wait(gauges.sampling_interval):
                return
            gauges.collect_metrics()
        self._put({prefix + name: float(value) for name, value in gauges.aggregate_metrics().items()})


def _clear(gauges: Any) -> None:
    for gauge in gauges.monitors:
        gauge.clear_metrics()
