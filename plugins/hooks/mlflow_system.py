"""The machine's load (CPU, memory, disk, network, GPU) as MLflow's `system/...` metrics, through our own outbox.

MLflow's monitor gives up for good when the store fails once, so a thread of ours reads its gauges.
"""

import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .mlflow_spool import log

INTERVAL_S = 10.0


class SystemMetrics:
    """Samples at the interval that MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says, else every 10 s.

    Args:
        put: Takes the values by name.
    """

    def __init__(self, put: Callable[[Mapping[str, float]], None]) -> None:
        self._put = put
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; nothing happens after `stop`, or when it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="dmf-system", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the sampling."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _watch(self) -> None:
        try:
            gauges = _gauges()
            _collect(gauges)  # the load of a CPU is counted from the call before: the first one is always 0
            while not self._stop.is_set():
                self._sample(gauges)
        except Exception as error:  # a driver that goes away must not end the run, nor leave a traceback on the screen
            log.warning("system metrics are no longer watched: %s: %s", type(error).__name__, error)

    def _sample(self, gauges: Sequence[Any]) -> None:
        """Watch for one interval, and pass its averages on unless it was cut short."""
        settings: Any = importlib.import_module("mlflow.environment_variables")
        for gauge in gauges:
            gauge.clear_metrics()
        for _ in range(settings.MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING.get() or 1):
            if self._stop.wait(settings.MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or INTERVAL_S):
                return
            _collect(gauges)
        node = settings.MLFLOW_SYSTEM_METRICS_NODE_ID.get()
        prefix = f"system/{node}/" if node else "system/"
        self._put(
            {prefix + name: float(value) for gauge in gauges for name, value in gauge.aggregate_metrics().items()}
        )


def _gauges() -> list[Any]:
    """MLflow's own gauges, those of graphics cards if there are any that its libraries can read."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    always: Any = (CPUMonitor, DiskMonitor, NetworkMonitor)
    cards: Any = (GPUMonitor, ROCMMonitor)
    gauges = [gauge() for gauge in always]
    for graphics in cards:
        try:
            return [*gauges, graphics()]
        except Exception as error:  # no card, no driver, no library: each has its own exception
            log.debug("%s: %s", graphics.__name__, error)
    return gauges


def _collect(gauges: Sequence[Any]) -> None:
    for gauge in gauges:
        gauge.collect_metrics()
