"""The Python layers of ``msp_cnn_train_val.prototxt``, for Caffe built with ``WITH_PYTHON_LAYER``.

Put this folder on ``PYTHONPATH``. ``L2Normalise`` and ``CrossCorrelationLoss`` need NumPy alone,
``PersonPairs`` OpenCV too. The code keeps to what Python 2.7 and 3 share, because Caffe's own
images have either. ``README.md`` beside this file says how to train with it.
"""

from __future__ import division

import ast
import io
import os

import caffe
import numpy as np


def _settings(layer, defaults):
    """The layer's ``param_str``, a Python dictionary, over its defaults."""
    text = getattr(layer, "param_str", "") or getattr(layer, "param_str_", "")  # of early versions
    given = ast.literal_eval(text) if text.strip() else {}
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise ValueError(
            "{0}: unknown settings {1}; it has {2}".format(
                type(layer).__name__, ", ".join(unknown), ", ".join(sorted(defaults))
            )
        )
    return dict(defaults, **given)


def _require_counts(layer, bottom, top, bottoms, tops):
    if len(bottom) != bottoms or len(top) != tops:
        raise ValueError(
            "{0}: expected {1} bottoms and {2} tops, found {3} and {4}".format(
                type(layer).__name__, bottoms, tops, len(bottom), len(top)
            )
        )


class L2Normalise(caffe.Layer):
    """Divides each row of (N, D) by its length; a row of zeros stays, and gets no gradient."""

    def setup(self, bottom, top):
        _settings(self, {})
        _require_counts(self, bottom, top, 1, 1)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        rows = bottom[0].data.reshape(bottom[0].data.shape[0], -1)
        length = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
        self._inverse = np.where(length > 0, 1 / np.where(length > 0, length, 1), 0)
        top[0].data[...] = (rows * self._inverse).reshape(top[0].data.shape)

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        units = top[0].data.reshape(top[0].data.shape[0], -1)
        slope = top[0].diff.reshape(units.shape)
        along = (units * slope).sum(axis=1, keepdims=True)
        found = (slope - units * along) * self._inverse
        bottom[0].diff[...] = found.reshape(bottom[0].diff.shape)


class CrossCorrelationLoss(caffe.Layer):
    """The normalised cross-correlation loss on two Pool1 maps, (P, C, H, W), and ``sim``, (P).

    A location's score is the largest correlation of its zero-padded patch with the patches of the
    other map in the same channel, over ``rows`` rows and all columns; patches are standardised by
    their mean and (deviation of n - 1) + ``sigma_eps``. With sim 1, scores of at least
    ``positive_threshold`` count, and the loss is mean(1 - score); with sim 0, scores above 0 and up
    to ``negative_threshold``, and it is mean(score). A patch of equal values counts in neither.
    The README beside this file has the sources.
    """

    def setup(self, bottom, top):
        _require_counts(self, bottom, top, 3, 1)
        self._set = _settings(
            self,
            {
                "patch": 5,
                "rows": 5,
                "outside_rows": True,
                "sigma_eps": 0.01,
                "positive_threshold": 0.5,
                "negative_threshold": 0.7,
            },
        )
        for name, least in (("patch", 3), ("rows", 1)):
            if self._set[name] < least or self._set[name] % 2 == 0:
                raise ValueError(
                    "CrossCorrelationLoss: {0} must be odd and at least {1}, found {2}".format(
                        name, least, self._set[name]
                    )
                )

    def reshape(self, bottom, top):
        if bottom[0].data.shape != bottom[1].data.shape or bottom[0].data.ndim != 4:
            raise ValueError(
                "CrossCorrelationLoss: expected two maps (P, C, H, W), found {0} and {1}".format(
                    bottom[0].data.shape, bottom[1].data.shape
                )
            )
        top[0].reshape(1)

    def forward(self, bottom, top):
        same = (bottom[2].data.reshape(-1) > 0.5).astype(int)
        sums, counts = [0.0, 0.0], [0, 0]  # of negative pairs, of positive pairs
        slopes = [np.zeros(bottom[i].data.shape, np.float64) for i in (0, 1)]
        for pair, is_same in enumerate(same):
            total, count, first, second = self._scores(
                bottom[0].data[pair], bottom[1].data[pair], is_same
            )
            sums[is_same] += total
            counts[is_same] += count
            slopes[0][pair], slopes[1][pair] = first, second
        means = [total / max(1, count) for total, count in zip(sums, counts)]
        top[0].data[0] = (counts[1] > 0) - means[1] + means[0]
        weight = np.where(same == 1, -1.0 / max(1, counts[1]), 1.0 / max(1, counts[0]))
        self._slopes = [slope * weight[:, None, None, None] for slope in slopes]

    def backward(self, top, propagate_down, bottom):
        for i in (0, 1):
            if propagate_down[i]:
                bottom[i].diff[...] = top[0].diff.reshape(-1)[0] * self._slopes[i]

    def _scores(self, first, second, is_same):
        """Of one pair of maps (C, H, W): the sum and number of the kept scores, and their slopes.

        A slope is d(sum of kept scores) / d(map), the gradient of the patches that were chosen.
        """
        a = _Patches(first, self._set, extra=0)
        b = _Patches(second, self._set, extra=self._set["rows"] // 2)
        channels, height, width = first.shape
        best = np.empty((channels, height, width))
        place = np.empty((channels, height, width), np.int64)  # into b's grid of patches
        if not self._set["outside_rows"]:
            b.exclude_outside()
        for y in range(height):
            rows = b.standardised[:, y : y + self._set["rows"]].reshape(channels, -1, a.size)
            scores = np.matmul(a.standardised[:, y], rows.transpose(0, 2, 1)) / (a.size - 1)
            index = scores.argmax(axis=2)
            best[:, y] = np.take_along_axis(scores, index[:, :, None], axis=2)[:, :, 0]
            place[:, y] = index + y * width
        if is_same:
            kept = best >= self._set["positive_threshold"]
        else:
            kept = (best > 0) & (best <= self._set["negative_threshold"])
        kept &= a.deviation > 0
        channel, y, x = np.nonzero(kept)
        row, column = np.divmod(place[kept], width)
        score = best[kept][:, None]
        at_a, at_b = (channel, y, x), (channel, row, column)
        patch_a, patch_b = a.standardised[at_a], b.standardised[at_b]
        slope_a = a.folded(at_a, patch_b - score * patch_a * a.share(at_a))
        slope_b = b.folded(at_b, patch_a - score * patch_b * b.share(at_b))
        return score.sum(), len(score), slope_a, slope_b


class _Patches(object):
    """All patches of one map (C, H, W), ``extra`` rows above and below it too.

    ``standardised`` (C, G, W, patch * patch), ``deviation`` (C, G, W); G is H + 2 * extra.
    """

    def __init__(self, values, settings, extra):
        self.patch, self.size = settings["patch"], settings["patch"] ** 2
        self.shape, self.extra, self.reach = values.shape, extra, settings["patch"] // 2
        self._eps = settings["sigma_eps"]
        edge = self.reach + extra
        padded = np.pad(
            np.asarray(values, np.float64),
            ((0, 0), (edge, edge), (self.reach, self.reach)),
            mode="constant",
        )
        self._padded_shape = padded.shape
        channels, height, width = values.shape
        grid = (channels, height + 2 * extra, width)
        windows = np.lib.stride_tricks.as_strided(
            padded, grid + (self.patch, self.patch), padded.strides + padded.strides[1:]
        )
        windows = windows.reshape(grid + (self.size,))
        centred = windows - windows.mean(axis=3, keepdims=True)
        flat = windows.max(axis=3) == windows.min(axis=3)
        centred[flat] = 0
        self.deviation = np.sqrt((centred * centred).sum(axis=3) / (self.size - 1))
        self.standardised = centred / (self.deviation + self._eps)[..., None]

    def exclude_outside(self):
        """Patches centred on rows outside the map score 0."""
        if self.extra:
            self.standardised[:, : self.extra] = 0
            self.standardised[:, -self.extra :] = 0

    def share(self, places):
        """(deviation + eps) / deviation of chosen patches; 0 for a flat one, which has no slope."""
        deviation = self.deviation[places][:, None]
        return np.where(deviation > 0, (deviation + self._eps) / np.maximum(deviation, 1e-30), 0)

    def folded(self, places, slopes):
        """Lay the slopes of chosen patches, (K, patch * patch), over the map: (C, H, W)."""
        channel, y, x = places
        scale = (self.size - 1) * (self.deviation[channel, y, x] + self._eps)
        slopes = slopes / scale[:, None]
        found = np.zeros(self._padded_shape)
        for k in range(self.size):
            down, right = divmod(k, self.patch)
            np.add.at(found, (channel, y + down, x + right), slopes[:, k])
        edge, (_, height, width) = self.reach + self.extra, self.shape
        return found[:, edge : edge + height, self.reach : self.reach + width]


class PersonPairs(caffe.Layer):
    """Pairs of images: tops ``data``, ``label`` (of the anchor), ``data_p``, ``sim``.

    In an epoch every image is an anchor once, in a random order. Each anchor has three rows: one
    positive, of another camera if there is one, and two negatives. Images are resized to 160x64
    and cropped to 144x56; in ``phase`` TRAIN at random and mirrored in half of the cases, each row
    anew; in TEST at the centre. ``images`` is a text file with a line ``PATH IDENTITY CAMERA`` for
    each image; where the package ``reid`` can be imported, ``dataset`` and ``root`` name one of
    its datasets instead. ``held_out`` is the share of each identity's images that TEST has and
    TRAIN has not.
    """

    def setup(self, bottom, top):
        import cv2

        _require_counts(self, bottom, top, 0, 4)
        self._cv2 = cv2
        self._set = _settings(
            self,
            {
                "phase": "TRAIN",
                "images": "",
                "dataset": "",
                "root": "",
                "batch_size": 50,
                "negatives": 2,
                "resize": (160, 64),
                "crop": (144, 56),
                "mean": (102.0, 102.0, 101.0),
                "held_out": 0.1,
                "seed": 0,
            },
        )
        if self._set["phase"] not in ("TRAIN", "TEST"):
            raise ValueError(
                "PersonPairs: phase must be TRAIN or TEST, found {0!r}".format(self._set["phase"])
            )
        self._is_training = self._set["phase"] == "TRAIN"
        images = self._listed() if self._set["images"] else self._of_dataset()
        identities = sorted(set(identity for _, identity, _ in images))
        if len(identities) < 2:
            raise ValueError(
                "PersonPairs: expected images of at least two identities, found {0}".format(
                    len(identities)
                )
            )
        number_of = dict((identity, n) for n, identity in enumerate(identities))
        chosen = self._of_phase(images)
        self._paths = [path for path, _, _ in chosen]
        self._labels = np.array([number_of[identity] for _, identity, _ in chosen])
        self._cameras = np.array([camera for _, _, camera in chosen])
        self._people = np.unique(self._labels)
        if len(self._people) < 2:
            raise ValueError(
                "PersonPairs: expected images of two identities in {0}, found {1}; change "
                "held_out, now {2}".format(
                    self._set["phase"], len(self._people), self._set["held_out"]
                )
            )
        self._draw = np.random.RandomState(self._set["seed"])
        self._rows = self._endless_rows()

    def reshape(self, bottom, top):
        rows, (height, width) = self._set["batch_size"], self._set["crop"]
        for image, number in ((top[0], top[1]), (top[2], top[3])):
            image.reshape(rows, 3, height, width)
            number.reshape(rows)

    def forward(self, bottom, top):
        for n in range(self._set["batch_size"]):
            anchor, other = next(self._rows)
            top[0].data[n] = self._image(anchor)
            top[2].data[n] = self._image(other)
            top[1].data[n] = self._labels[anchor]
            top[3].data[n] = self._labels[anchor] == self._labels[other]

    def backward(self, top, propagate_down, bottom):
        pass

    def _listed(self):
        found = []
        with io.open(self._set["images"], encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                words = line.strip().rsplit(None, 2)
                if not words:
                    continue
                if len(words) != 3:
                    raise ValueError(
                        "{0}, line {1}: expected PATH IDENTITY CAMERA, found {2!r}".format(
                            self._set["images"], number, line.strip()
                        )
                    )
                found.append((words[0], int(words[1]), int(words[2])))
        return found

    def _of_dataset(self):
        try:
            from reid.data import load_split
        except ImportError:
            raise ValueError(
                "PersonPairs: expected 'images', a file of lines PATH IDENTITY CAMERA, because the "
                "package reid cannot be imported here"
            )
        records = load_split(self._set["dataset"], self._set["root"]).train
        return [(str(one.path), one.person_id, one.camera_id) for one in records]

    def _of_phase(self, images):
        """Each identity's last images are held out, in the order of the list."""
        of_identity = {}
        for image in images:
            of_identity.setdefault(image[1], []).append(image)
        chosen = []
        for identity in sorted(of_identity):
            own = of_identity[identity]
            trained = len(own) - int(self._set["held_out"] * len(own))
            chosen += own[:trained] if self._is_training else own[trained:]
        return chosen

    def _endless_rows(self):
        every = np.arange(len(self._paths))
        while True:
            for anchor in self._draw.permutation(len(every)):
                own = self._labels == self._labels[anchor]
                positives = every[own & (self._cameras != self._cameras[anchor])]
                if not len(positives):
                    positives = every[own & (every != anchor)]
                if not len(positives):
                    positives = every[own]
                yield anchor, self._draw.choice(positives)
                for _ in range(self._set["negatives"]):
                    person = self._draw.choice(self._people[self._people != self._labels[anchor]])
                    yield anchor, self._draw.choice(every[self._labels == person])

    def _image(self, index):
        """(3, crop height, crop width) float, BGR less the mean."""
        path = os.path.expanduser(self._paths[index])
        image = self._cv2.imread(path)
        if image is None:
            raise ValueError("{0}: not an image that OpenCV reads".format(path))
        (height, width), (rows, columns) = self._set["crop"], self._set["resize"]
        image = self._cv2.resize(image, (columns, rows))
        top, left = (rows - height) // 2, (columns - width) // 2
        mirrored = False
        if self._is_training:
            top = self._draw.randint(rows - height + 1)
            left = self._draw.randint(columns - width + 1)
            mirrored = self._draw.rand() < 0.5
        crop = image[top : top + height, left : left + width].astype(np.float64)
        if mirrored:
            crop = crop[:, ::-1]
        return (crop - np.array(self._set["mean"])).transpose(2, 0, 1)
