"""Cameras: video files, image folders, V4L2 devices and network streams, a thread for each.

``parse_sources`` reads what a user names, ``Cameras`` runs them and hands out rounds of frames.
A network address may hold a password: it is given to the decoder, and shown nowhere.
"""
