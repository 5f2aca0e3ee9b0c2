"""Galleries: images of people with their features, identities, cameras and times.

These are the shared types. ``reid.deploy.gallery.opening`` opens a gallery; it is imported only
when needed, because it needs faiss-cpu.
"""

from __future__ import annotations

from .gallery import ANYWHERE, Box, Confirmation, GalleryEntry, GalleryStore, Match, Summary, Where

__all__ = [
    "ANYWHERE",
    "Box",
    "Confirmation",
    "GalleryEntry",
    "GalleryStore",
    "Match",
    "Summary",
    "Where",
]
