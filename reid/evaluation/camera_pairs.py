"""Results per pair of cameras: queries of one camera against gallery images of another.

A mean over all pairs hides a single bad camera. Each pair is evaluated separately: only the
gallery images of one camera are ranked, without junk, for the queries of the other camera that
have a correct match among them.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from reid.evaluation.metrics import scores_from_ranks
from reid.evaluation.ranking import Tile, ranks_of_good
from reid.matching.labels import Labelled
from reid.types import JUNK_ID, CameraPair, IntArray


class CameraPairs:
    """Ranks correct matches among the gallery images of their camera."""

    def __init__(self, query: Labelled, gallery: Labelled) -> None:
        self._query_cameras = query.camera_ids
        cameras = gallery.camera_ids
        ranked = np.flatnonzero(gallery.person_ids != JUNK_ID)
        self._order = ranked[np.argsort(cameras[ranked], kind="stable")]
        self._places = np.zeros(len(cameras), np.int64)
        self._places[self._order] = np.arange(len(self._order))
        self._cameras, first = np.unique(cameras[self._order], return_index=True)
        self._borders = np.append(first, len(self._order))
        self._ranks: defaultdict[tuple[int, int], list[IntArray]] = defaultdict(list)

    def add(self, tile: Tile) -> None:
        query_cameras = self._query_cameras[tile.rows].tolist()
        for row, camera, good in zip(tile.ranked, query_cameras, tile.good, strict=True):
            if not len(good):
                continue
            by_camera = row[self._order]
            places = np.sort(self._places[good])
            borders = np.searchsorted(places, self._borders)
            for i in np.flatnonzero(np.diff(borders)).tolist():
                start, stop = self._borders[i], self._borders[i + 1]
                here = places[borders[i] : borders[i + 1]] - start
                pair = camera, int(self._cameras[i])
                self._ranks[pair].append(ranks_of_good(by_camera[start:stop], here))

    def pairs(self) -> tuple[CameraPair, ...]:
        """The results, ordered by the query's camera, then the gallery's."""
        found = []
        for (query_camera, gallery_camera), ranks in sorted(self._ranks.items()):
            scores = scores_from_ranks(ranks, cmc_ranks=(1,))
            found.append(
                CameraPair(
                    query_camera=query_camera,
                    gallery_camera=gallery_camera,
                    num_query=scores.num_query,
                    rank1=scores.cmc[1],
                    map_step=scores.map_step,
                    map_trapezoid=scores.map_trapezoid,
                )
            )
        return tuple(found)
