"""Cameras for bench_site.py: RTSP streams of H.264, with GStreamer's own server.

usage: /usr/bin/python3 rtsp_cameras.py PORT FRAMES...

Needs Debian's python3-gi, gir1.2-gst-rtsp-server-1.0 and GStreamer's plugins, which are outside of
every virtual environment. ``FRAMES`` are folders of 000001.jpg, ...; the n-th is /n (from 0) and
begins again when it is over.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    for number, folder in enumerate(sys.argv[2:]):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_shared(True)
        factory.set_launch(
            f"( multifilesrc location={folder}/%06d.jpg start-index=1 loop=true "
            "caps=image/jpeg,framerate=10/1 ! jpegdec ! videoconvert ! "
            "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! "
            "rtph264pay name=pay0 pt=96 )"
        )
        server.get_mount_points().add_factory(f"/{number}", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
