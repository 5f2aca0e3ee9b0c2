"""What `reid watch` gives out beyond files of events and a video, opened together."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from reid.closing import Closeable
from reid.errors import OutputError
from reid.progress import Say

from ..cameras.camera import Counts, Frame
from ..cameras.masks import Polygon
from ..cameras.sources import CameraSource
from ..watch.clock import RunClock
from ..watch.events import Sink, TrackSink
from ..watch.recorder import Recorder, RecordSettings
from ..watch.zones import Zones


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """Outputs of a site, and the parts of its cameras' pictures.

    ``record`` is where cameras are recorded, ``mqtt`` (MqttSettings) and ``webhook``
    (WebhookSettings) get the track events, ``metrics`` is the host and port of Prometheus' page.
    Files of events are rotated at ``events_max_mb`` and each day, and removed after
    ``events_keep_days``. ``masks`` maps a camera to polygons that are blackened, ``zones`` to its
    named polygons.
    """

    record: RecordSettings | None = None
    mqtt: Any = None
    webhook: Any = None
    metrics: tuple[str, int] | None = None
    events_max_mb: float | None = None
    events_keep_days: float | None = None
    masks: Mapping[str, tuple[Polygon, ...]] = field(default_factory=dict)
    zones: Mapping[str, Mapping[str, Polygon]] = field(default_factory=dict)


NO_OUTPUTS = OutputSettings()
"""None of them."""


class Outputs(Closeable):
    """The open outputs: ``sinks`` get frames, ``track_sinks`` track events. A context manager.

    Raises ConfigError and OutputError for one that cannot be opened.
    """

    def __init__(
        self,
        settings: OutputSettings,
        sources: Sequence[CameraSource],
        clock: RunClock,
        counts: Callable[[], Mapping[str, Counts]],
        say: Say,
    ) -> None:
        self.sinks: list[Sink] = []
        self.track_sinks: list[TrackSink] = []
        self.zones = Zones(settings.zones)
        self.alive: Callable[[], object] = lambda: None
        """To be called in every round: /healthz says that the main loop goes round."""
        self._open: dict[str, Any] = {}
        self._stack = ExitStack()
        names = [source.name for source in sources]
        with self._stack:
            if settings.record is not None:
                live = any(source.live for source in sources)
                recorder = Recorder(settings.record, say, _unix(clock), wait=not live)
                self.sinks.append(self._kept("record", recorder))
            # Their packages are imported only where they are needed.
            if settings.mqtt is not None:
                mqtt = importlib.import_module("reid.deploy.watch.mqtt")
                sink = mqtt.MqttSink(settings.mqtt, names, say)
                self.track_sinks.append(self._kept("mqtt", sink))
            if settings.webhook is not None:
                webhook = importlib.import_module("reid.deploy.watch.webhook")
                sink = webhook.WebhookSink(settings.webhook, say)
                self.track_sinks.append(self._kept("webhook", sink))
            if settings.metrics is not None:
                metrics = importlib.import_module("reid.deploy.watch.metrics")
                host, port = settings.metrics
                sink = metrics.MetricsSink(
                    host, port, counts=counts, queues=self.waiting, lost=self.lost
                )
                self.sinks.append(self._stack.enter_context(sink))
                self.alive = sink.alive
                say(f"reid: metrics on http://{host}:{sink.port}/metrics")
            self._stack = self._stack.pop_all()

    def lost(self) -> dict[str, int]:
        """Output -> events or frames that it lost."""
        return {name: one.lost for name, one in self._open.items()}

    def waiting(self) -> dict[str, float]:
        """Output -> what waits in it."""
        found = {name: one.waiting for name, one in self._open.items()}
        return {
            name: sum(one.values()) if isinstance(one, Mapping) else one
            for name, one in found.items()
        }

    def close(self) -> None:
        """Finish all, the last one first."""
        self._stack.close()

    def _kept(self, name: str, output: Any) -> Any:
        self._open[name] = self._stack.enter_context(output)
        return output


def check_nothing_lost(lost: Mapping[str, int]) -> None:
    """Raise OutputError if an output other than recordings, which drop frames, lost something."""
    missing = {name: count for name, count in lost.items() if count and name != "record"}
    if missing:
        words = ", ".join(f"{count} events for {name}" for name, count in missing.items())
        raise OutputError(f"lost: {words}; is the receiver there?")


def _unix(clock: RunClock) -> Callable[[Frame], float]:
    """A frame's Unix time; a recording whose start is not known begins with the run."""
    began_s = time.time()

    def unix_s(frame: Frame) -> float:
        known_s = clock.unix_s(frame)
        return began_s + frame.time_s if known_s is None else known_s

    return unix_s
