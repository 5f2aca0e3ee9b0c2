"""Cameras: video files, image folders, V4L2 devices and network streams, each in its thread.

``parse_sources`` parses the sources, ``Cameras`` reads them and yields rounds of frames. A URL
may hold a password: only the decoder gets it, and it is never shown.
"""
