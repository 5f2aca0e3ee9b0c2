"""Described images to search in: their vectors, whom they show, where and when.

These are the words that all use; ``reid.deploy.gallery.opening`` opens a gallery and is
imported where one is wanted, for it needs faiss-cpu.
"""

from __future__ import annotations

from .gallery import ANYWHERE, Box, Confirmation, Gallery, GalleryEntry, Match, Summary, Where

__all__ = [
    "ANYWHERE",
    "Box",
    "Confirmation",
    "Gallery",
    "GalleryEntry",
    "Match",
    "Summary",
    "Where",
]
