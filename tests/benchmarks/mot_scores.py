"""HOTA, MOTA and IDF1 by TrackEval: python mot_scores.py FRAMES.npz, with TrackEval's interpreter.

It asks for an OpenCV that would replace ours, so that it has an environment of its own and this
file imports nothing of the project. FRAMES.npz has, frame after frame, ``gt_counts``, ``gt_ids``,
``tracker_counts``, ``tracker_ids`` (ids are 0, 1, ...) and ``similarity``: all frames' matrices of
IoU, (gt, tracker), one behind the other. Prints one JSON object.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

import numpy as np

with contextlib.redirect_stdout(io.StringIO()):  # it names what else it could import
    from trackeval.metrics import CLEAR, HOTA, Identity

MIN_OVERLAP = 0.5


def main() -> None:
    with np.load(sys.argv[1], allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    counts = {side: stored[f"{side}_counts"].tolist() for side in ("gt", "tracker")}
    ids = {
        side: np.split(stored[f"{side}_ids"].astype(int), np.cumsum(counts[side])[:-1])
        for side in counts
    }
    matrices, at = [], 0
    for rows, columns in zip(counts["gt"], counts["tracker"], strict=True):
        matrices.append(stored["similarity"][at : at + rows * columns].reshape(rows, columns))
        at += rows * columns
    data = {
        "num_timesteps": len(matrices),
        "num_gt_ids": len(set(stored["gt_ids"].tolist())),
        "num_tracker_ids": len(set(stored["tracker_ids"].tolist())),
        "num_gt_dets": sum(counts["gt"]),
        "num_tracker_dets": sum(counts["tracker"]),
        "gt_ids": ids["gt"],
        "tracker_ids": ids["tracker"],
        "similarity_scores": matrices,
    }
    settings = {"THRESHOLD": MIN_OVERLAP, "PRINT_CONFIG": False}
    clear, identity = (kind(settings).eval_sequence(data) for kind in (CLEAR, Identity))
    hota = HOTA({"PRINT_CONFIG": False}).eval_sequence(data)
    found = {
        "hota": float(np.mean(hota["HOTA"])),
        "deta": float(np.mean(hota["DetA"])),
        "assa": float(np.mean(hota["AssA"])),
        "mota": float(clear["MOTA"]),
        "idf1": float(identity["IDF1"]),
        "switches": int(clear["IDSW"]),
        "recall": float(clear["CLR_Re"]),
        "precision": float(clear["CLR_Pr"]),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
