"""The API as its design sketches it, line by line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

import reid


def test_the_sketch_runs_as_it_stands(
    people: Path,
    tiny_overrides: tuple[str, ...],
    queries: list[Path],
    gallery_images: list[Path],
    tmp_path: Path,
) -> None:
    run = reid.train(
        "msp_cnn_synthetic", root=people, out=tmp_path / "run", overrides=tiny_overrides
    )
    image = np.asarray(cv2.imread(str(gallery_images[1])), np.uint8)
    with reid.load(run.folder, device="auto", threads=0) as model:
        features = model.embed([str(gallery_images[0]), image])
        distances = model.distances([str(queries[0])], features)
        assert distances.shape == (1, 2)
        result = model.evaluate("synthetic", root=people)
        assert 0 <= result.rank1 <= 1
        assert 0 <= result.mAP <= 1
        assert result.to_html(tmp_path / "page.html").is_file()
        files = model.export(tmp_path / "out", fp16=True)
        assert all(file.is_file() for file in files)
        gallery = reid.Gallery.open(tmp_path / "people.gallery", model)
        gallery.add(people / "bounding_box_test")
        assert len(gallery.search(queries[0], k=5)) == 5
        tracker = reid.Tracker(model)
        assert tracker.update([[10, 10, 50, 120]], np.zeros((200, 200, 3), np.uint8)) == []
    figures = reid.score(distances, [1], [1, 2], [0], [1, 1])
    assert figures.num_query == 1
