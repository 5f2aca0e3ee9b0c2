"""A site's file as the settings of `reid watch` and `reid serve`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.errors import ConfigError
from reid.model_file.opening import ModelFile

from ..cameras.sources import parse_sources
from ..cameras.tls import TlsTrust
from ..gallery.opening import MILVUS
from ..site.addresses import listen_from, mqtt_from_url, webhook_from_url
from ..site.site import Site, SiteError, checked, open_site
from ..site.table import Table
from ..watch.clock import starts_from
from ..watch.encoders import AUTO, CODECS
from ..watch.mqtt import MqttSettings
from ..watch.recorder import RecordSettings
from ..watch.webhook import WebhookSettings
from .model_to_open import ModelToOpen
from .opening import GalleryToOpen
from .outputs import OutputSettings
from .serving import ServeSettings
from .watch_settings import WatchSettings


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """What a site's file asks for; ``serve`` is None without a table ``[serve]``."""

    model: ModelToOpen
    watch: WatchSettings
    gallery: GalleryToOpen | None
    serve: ServeSettings | None
    group: str


def read_site(path: Path, environment: Mapping[str, str] = os.environ) -> SiteSettings:
    """Read and check a site's file; nothing is started or written.

    Paths are relative to the file's folder. Raises ConfigError with all its problems, each in a
    line with its place.
    """
    site = open_site(path, environment)
    top, problems = site.top, site.problems
    model = _model(top)
    tls = _tls(top)
    gallery = top.text("gallery")
    if gallery and not gallery.startswith(MILVUS):
        gallery = str(top.folder / gallery)
    retention = top.table("retention")
    keep_days = None
    if retention is not None:
        keep_days = retention.number("keep_days", None, 0.001, 36_500)
        retention.finish()
    files = _files(top, keep_days)
    rotation = files.pop("rotation", (None, None))
    watch = WatchSettings(
        tuple(f"{camera.name}={camera.url}" for camera in site.cameras),
        tls=tls,
        live=top.flag("live"),
        detector=top.path("detector", exists=True),
        gallery=gallery or None,
        max_distance=top.number("max_distance", None, -1e9),
        min_height=top.whole("min_height", None, 1, 10_000),
        allow_unproven=top.flag("allow_unproven"),
        start_times=tuple(f"{one.name}={one.start_time}" for one in site.cameras if one.start_time),
        keep_days=keep_days,
        **files,
        outputs=_outputs(top, site, keep_days, rotation),
        site=path,
    )
    served, serve = _serve(top, watch)
    group = top.text("group")
    top.finish()
    _check_watch(watch, model, problems)
    site.check()
    return SiteSettings(model, watch, served, serve, group)


def site_problems(path: Path) -> tuple[str, ...]:
    """The problems of a site's file, each in one line with its place; empty for a good one.

    Raises ConfigError for a file that cannot be read as TOML.
    """
    try:
        read_site(path)
    except SiteError as error:
        if not error.problems:
            raise
        return error.problems
    return ()


def serving_from(path: Path) -> tuple[ModelToOpen, GalleryToOpen, ServeSettings]:
    """What `reid serve` takes of a site's file. Raises ConfigError, also without ``[serve]``."""
    site = read_site(path)
    if site.serve is None or site.gallery is None:
        raise ConfigError(f"{path} has no table [serve]: an empty one is enough")
    return site.model, site.gallery, site.serve


def outputs_from_options(
    *,
    record: Path | None,
    segment_minutes: float,
    keep_days: float | None,
    mqtt: str | None,
    webhook: str | None,
    webhook_secret: str,
    metrics: str | None,
    events_max_mb: float | None,
    events_keep_days: float | None,
    tls_ca: Path | None,
) -> OutputSettings:
    """The outputs of a command line. Raises ConfigError, which shows no secret."""
    return OutputSettings(
        record=RecordSettings(record, segment_minutes, keep_days) if record else None,
        mqtt=mqtt_from_url(mqtt, tls_ca if mqtt.startswith("mqtts:") else None) if mqtt else None,
        webhook=webhook_from_url(webhook, webhook_secret) if webhook else None,
        metrics=listen_from(metrics) if metrics else None,
        events_max_mb=events_max_mb,
        events_keep_days=events_keep_days,
    )


def _model(top: Table) -> ModelToOpen:
    path = top.path("model", exists=True)
    if path is None:
        top.wrong("model", "expected the model's file; found none")
    elif path.exists():
        checked(top.problems, "model", lambda: ModelFile.at(path))
    device, threads = top.text("device", "auto"), top.whole("threads", 0, 0, 4096)
    return ModelToOpen(path or Path(), device, threads)


def _tls(top: Table) -> TlsTrust:
    table = top.table("tls")
    if table is None:
        return TlsTrust()
    trust = TlsTrust(table.path("ca"), table.flag("insecure"))
    checked(top.problems, "tls.ca", trust.check)
    table.finish()
    return trust


def _files(top: Table, keep_days: float | None) -> dict[str, Any]:
    """Events, track events, enrolment and identities."""
    found: dict[str, Any] = {}
    if (events := top.table("events")) is not None:
        found["events"], found["track_events"] = events.path("people"), events.path("tracks")
        found["seen_every_s"] = events.number("seen_every_s", 10.0, 0.1, 86_400)
        found["rotation"] = (
            events.number("max_mb", None, 0.01, 1e6),
            events.number("keep_days", keep_days, 0.001, 36_500),
        )
        events.finish()
    if (enrol := top.table("enrol")) is not None:
        found["enrol"] = enrol.flag("on", True)
        found["looks"] = enrol.whole("looks", 3, 1, 20)
        found["keep_frames"] = enrol.path("frames")
        enrol.finish()
    if (identities := top.table("identities")) is not None:
        found["identities"] = identities.path("file")
        found["identity_hours"] = identities.number("hours", 24.0, 0.01, 8760)
        identities.finish()
    return found


def _outputs(
    top: Table,
    site: Site,
    keep_days: float | None,
    rotation: tuple[float | None, float | None],
) -> OutputSettings:
    return OutputSettings(
        record=_record(top, keep_days),
        mqtt=_mqtt(top),
        webhook=_webhook(top),
        metrics=_metrics(top),
        events_max_mb=rotation[0],
        events_keep_days=rotation[1],
        masks={camera.name: camera.mask for camera in site.cameras},
        zones={camera.name: camera.zones for camera in site.cameras},
    )


def _record(top: Table, keep_days: float | None) -> RecordSettings | None:
    table = top.table("record")
    if table is None:
        return None
    folder = table.path("folder")
    if folder is None:
        table.wrong("folder", "expected the folder of recordings; found none")
    settings = RecordSettings(
        folder or Path(),
        table.number("segment_minutes", 10.0, 0.05, 1440),
        table.number("keep_days", keep_days, 0.001, 36_500),
        table.number("fps", 5.0, 0.1, 60),
        table.whole("width", 640, 64, 7680),
        table.text("codec", AUTO, (AUTO, *CODECS)),
    )
    if settings.keep_days is None:
        table.wrong("keep_days", "recordings need one, here or in [retention]; found none")
    table.finish()
    return settings


def _mqtt(top: Table) -> MqttSettings | None:
    table = top.table("mqtt")
    if table is None:
        return None
    settings = MqttSettings(
        table.text("host"),
        table.whole("port", 0, 1, 65535),
        table.secret("user"),
        table.secret("password"),
        table.text("prefix", "reid"),
        table.flag("tls"),
        table.path("ca", exists=True),
        table.whole("queue", 10_000, 1, 50_000),
    )
    table.finish()
    checked(top.problems, "mqtt", settings.check)
    return settings


def _webhook(top: Table) -> WebhookSettings | None:
    table = top.table("webhook")
    if table is None:
        return None
    settings = WebhookSettings(
        table.secret("url"),
        table.secret("secret"),
        table.path("ca", exists=True),
        table.whole("queue", 10_000, 1, 1_000_000),
        table.number("keep_s", 3600.0, 1, 604_800),
    )
    table.finish()
    checked(top.problems, "webhook", settings.check)
    return settings


def _metrics(top: Table) -> tuple[str, int] | None:
    table = top.table("metrics")
    if table is None:
        return None
    listen = table.text("listen", "127.0.0.1:9100")
    table.finish()
    found: tuple[str, int] | None = checked(
        top.problems, "metrics.listen", lambda: listen_from(listen)
    )
    return found


def _serve(top: Table, watch: WatchSettings) -> tuple[GalleryToOpen | None, ServeSettings | None]:
    served = GalleryToOpen(watch.gallery) if watch.gallery else None
    table = top.table("serve")
    if table is None:
        return served, None
    if served is None:
        table.wrong("host", "the page searches a gallery: name it with gallery = above")
    record = watch.outputs.record
    settings = ServeSettings(
        host=table.text("host", "127.0.0.1"),
        port=table.whole("port", 8080, 0, 65535),
        token=table.secret("token"),
        users=table.path("users", exists=True),
        public_url=table.text("public_url"),
        trusted_proxies=table.texts("trusted_proxies"),
        tls_cert=table.path("tls_cert", exists=True),
        tls_key=table.path("tls_key", exists=True),
        max_distance=watch.max_distance,
        detector=watch.detector,
        frames=watch.keep_frames,
        recordings=record.folder if record else None,
        access_log=table.path("access_log"),
        access_log_days=table.number("access_log_days", ServeSettings().access_log_days, 0.01),
        signing_key=table.path("signing_key", exists=True),
    )
    table.finish()
    checked(top.problems, "serve", settings.certificate)
    return served, settings


def _check_watch(watch: WatchSettings, model: ModelToOpen, problems: list[str]) -> None:
    """What only belongs together or not."""
    checked(problems, "enrol", watch.enrolment)
    if not watch.sources:
        problems.append("camera: expected one [[camera]] or more, found none")
    for number, word in enumerate(watch.sources, 1):
        checked(problems, f"camera[{number}].url", lambda word=word: parse_sources((word,)))
    if problems:  # the same would be said once more
        return
    sources = checked(problems, "camera", lambda: watch.checked_sources(model.path))
    if sources and watch.start_times:
        checked(problems, "camera", lambda: starts_from(watch.start_times, sources))
