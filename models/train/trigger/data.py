"""Frames and labels of training: simulated shards (`firmware-agent simulate --batch`) and pseudo-labelled real frames.

Batch n is a function of the recipe and n alone. A frame is brought to the input by one affine map (zoom, shift, flip),
then colour, blur, noise and JPEG are laid over it, so that what is learnt does not hang on how the simulator paints.
"""

import glob
import json
import os

import cv2
import numpy as np

from model import HEIGHT, STRIDES, WIDTH

KINDS = {"pedestrian": 0, "child": 0, "cyclist": 1, "motorbike": 2, "car": 3, "suv": 3, "van": 3, "bus": 4, "truck": 5}
IGNORE = -1
# Less of a box to be seen than this share, or fewer pixels a side of the input, and it is neither right nor wrong.
MIN_VISIBLE, MIN_SIDE = 0.35, 4.0
# Longest side of boxes that a level answers for, pixels of the input.
RANGES = [(0, 48), (32, 128), (96, 4096)]
# Drawn once: a part of it is laid over a picture, which takes a tenth of the time of new numbers.
NOISE = np.random.default_rng(7).standard_normal((4 * HEIGHT, 4 * WIDTH, 3), np.float32)


def frame_labels(frame):
    """Boxes (pixels of the picture) and classes of one frame of a truth."""
    boxes, classes = [], []
    for t in frame["tracks"]:
        if t.get("box_px") and t["kind"] in KINDS:
            boxes.append(t["box_px"])
            classes.append(KINDS[t["kind"]] if t["visible"] >= MIN_VISIBLE else IGNORE)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64)


class Simulated:
    """Frames of one split."""

    def __init__(self, folder):
        self.shards, self.index, self.labels = [], [], []
        for k, path in enumerate(sorted(glob.glob(os.path.join(folder, "*.frames.npy")))):
            self.shards.append(np.load(path, mmap_mode="r"))
            with open(path.replace(".frames.npy", ".jsonl"), encoding="utf-8") as lines:
                for clip, line in enumerate(lines):
                    for f, frame in enumerate(json.loads(line)["clip"]["frames"]):
                        self.index.append((k, clip, f))
                        self.labels.append(frame_labels(frame))

    def __len__(self):
        return len(self.index)

    def get(self, i):
        k, clip, f = self.index[i]
        return self.shards[k][clip, f], *self.labels[i]

    def odds(self, rare):
        """Chances of frames: those with a class other than car and person come `rare` times as often."""
        p = np.array([rare if np.isin(c, [1, 2, 4, 5]).any() else 1.0 for _, c in self.labels])
        return p / p.sum()


class Real:
    """Frames that pseudo_labels.py wrote: an array of pictures, and labels with a score each."""

    def __init__(self, path, keep):
        """`keep`: "train" or "held_out"."""
        z = np.load(path, allow_pickle=False)
        self.images, owner, self.rows = z["images"], z["owner"], z["rows"]
        self.frames = np.flatnonzero(z["held_out"] == (keep == "held_out"))
        self.of = [self.rows[owner == i] for i in range(len(self.images))]

    def __len__(self):
        return len(self.frames)

    def get(self, i, sure=0.45):
        rows = self.of[self.frames[i]]
        classes = np.where(rows[:, 5] >= sure, rows[:, 4], IGNORE).astype(np.int64)
        return self.images[self.frames[i]], rows[:, :4].astype(np.float32), classes


def warp(image, boxes, classes, rng, zoom):
    """A random crop, in one step. Boxes that lose most of themselves are ignored."""
    h, w = image.shape[:2]
    s = np.exp(rng.uniform(np.log(zoom[0]), np.log(zoom[1])))
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    sx, sy = WIDTH / w * s * stretch, HEIGHT / h * s / stretch
    fx, fy = WIDTH - w * sx, HEIGHT - h * sy
    tx, ty = fx * rng.uniform(0, 1), fy * np.clip(rng.normal(0.5, 0.25), 0, 1)
    m = np.array([[sx, 0, tx], [0, sy, ty]], np.float32)
    flip = rng.random() < 0.5
    if flip:
        m[0] = [-sx, 0, WIDTH - tx]
    pad = tuple(int(v) for v in rng.integers(0, 256, 3))
    # A picture is made smaller by areas first: the agent's bilinear sampling of a large frame skips pixels, so both occur.
    if max(sx, sy) < 0.75 and rng.random() < 0.5:
        small = cv2.resize(image, (max(1, round(w * sx)), max(1, round(h * sy))), interpolation=cv2.INTER_AREA)
        m[0, 0] *= w / small.shape[1]
        m[1, 1] *= h / small.shape[0]
        out = cv2.warpAffine(small, m, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderValue=pad)
    else:
        out = cv2.warpAffine(image, m, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderValue=pad)
    b = boxes * np.array([sx, sy, sx, sy], np.float32) + np.array([tx, ty, tx, ty], np.float32)
    if flip:
        b[:, [0, 2]] = WIDTH - b[:, [2, 0]]
    return out, *clip(b, classes)


def plain(image, boxes, classes):
    """As the agent looks at a frame: stretched to the input, bilinear."""
    h, w = image.shape[:2]
    out = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    return out, *clip(boxes * np.array([WIDTH / w, HEIGHT / h] * 2, np.float32), classes)


def clip(b, classes):
    """Boxes within the input; what is too small or mostly outside is ignored, what is wholly outside goes."""
    area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    c = np.clip(b, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)
    side = np.minimum(c[:, 2] - c[:, 0], c[:, 3] - c[:, 1])
    left = (c[:, 2] - c[:, 0]) * (c[:, 3] - c[:, 1]) / np.maximum(area, 1e-6)
    classes = np.where((side < MIN_SIDE) | (left < 0.25), IGNORE, classes)
    keep = side > 0.5
    return c[keep], classes[keep]


def paint(image, rng):
    """Colour, light, blur, noise, JPEG."""
    x = image
    if rng.random() < 0.8:
        hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV).astype(np.int16)
        hsv[..., 0] = (hsv[..., 0] + int(rng.integers(-18, 19))) % 180
        hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.2, 1.8), 0, 255)
        x = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    if rng.random() < 0.08:
        x = np.repeat(x.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    gamma, gain, shift = np.exp(rng.normal(0, 0.3)), np.exp(rng.normal(0, 0.2)), rng.normal(0, 14)
    curve = (np.arange(256) / 255.0) ** gamma * 255 * gain + shift
    tint = np.exp(rng.normal(0, 0.08, 3))
    tables = np.clip(curve[:, None] * tint, 0, 255).astype(np.uint8)
    x = cv2.LUT(x, np.ascontiguousarray(tables[:, None, :]))
    if rng.random() < 0.35:
        if rng.random() < 0.5:
            x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.6))
        else:
            n = int(rng.integers(2, 6))
            kernel = np.ones((1, n) if rng.random() < 0.6 else (n, 1), np.float32) / n
            x = cv2.filter2D(x, -1, kernel)
    elif rng.random() < 0.3:
        soft = cv2.GaussianBlur(x, (0, 0), 1.0)
        x = cv2.addWeighted(x, 1.8, soft, -0.8, 0)
    if rng.random() < 0.4:
        y, c = int(rng.integers(NOISE.shape[0] - HEIGHT)), int(rng.integers(NOISE.shape[1] - WIDTH))
        channels = 1 if rng.random() < 0.5 else 3
        noise = NOISE[y : y + HEIGHT, c : c + WIDTH, :channels] * np.float32(rng.uniform(2, 14))
        x = np.clip(x + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        _, code = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        x = cv2.imdecode(code, cv2.IMREAD_COLOR)
    if rng.random() < 0.15:
        # Something before the lens or in front: what is covered is not to be relied on.
        w, h = int(rng.integers(8, 70)), int(rng.integers(8, 50))
        x0, y0 = int(rng.integers(0, WIDTH - w)), int(rng.integers(0, HEIGHT - h))
        x = x.copy()
        x[y0 : y0 + h, x0 : x0 + w] = rng.integers(0, 256, 3)
    return x


def points():
    cells = []
    for level, s in enumerate(STRIDES):
        y, x = np.mgrid[0 : HEIGHT // s, 0 : WIDTH // s]
        cells.append(np.stack(((x.ravel() + 0.5) * s, (y.ravel() + 0.5) * s, np.full(x.size, level)), 1))
    return np.concatenate(cells).astype(np.float32)


POINTS = points()


def assign(boxes, classes, radius=1.5):
    """The box of each point: its number, -1 for none, -2 where neither is right. A smaller box goes first."""
    owner = np.full(len(POINTS), -1, np.int64)
    px, py, level = POINTS[:, 0], POINTS[:, 1], POINTS[:, 2].astype(np.int64)
    stride = np.array(STRIDES, np.float32)[level]
    low, high = np.array(RANGES, np.float32)[level].T
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in np.argsort(-area, kind="stable"):
        x0, y0, x1, y1 = boxes[i]
        if classes[i] == IGNORE:
            inside = (px > x0 - 4) & (px < x1 + 4) & (py > y0 - 4) & (py < y1 + 4)
            owner[inside & (owner == -1)] = -2
            continue
        side = max(x1 - x0, y1 - y0)
        far = np.maximum(np.abs(px - (x0 + x1) / 2), np.abs(py - (y0 + y1) / 2)) / stride
        inside = (px > x0) & (px < x1) & (py > y0) & (py < y1)
        owner[(side >= low) & (side < high) & ((far < 0.75) | ((far < radius) & inside))] = i
    return owner


def sample(source, i, rng, zoom):
    image, boxes, classes = source.get(i)
    image, boxes, classes = warp(np.ascontiguousarray(image), boxes, classes, rng, zoom)
    owner = assign(boxes, classes)
    rows = np.zeros((len(POINTS), 5), np.float32)
    hit = owner >= 0
    rows[hit, :4] = boxes[owner[hit]]
    rows[hit, 4] = classes[owner[hit]]
    rows[~hit, 4] = owner[~hit]
    return paint(image, rng), rows


class Batches:
    """Batches by number, for a loader in a process of its own."""

    def __init__(self, recipe, simulated, real, first):
        self.recipe, self.simulated, self.real, self.first = recipe, simulated, real, first
        self.odds = np.cumsum(simulated.odds(recipe["rare"]))

    def __len__(self):
        return self.recipe["steps"] - self.first

    def __getitem__(self, k):
        cv2.setNumThreads(0)
        r = self.recipe
        rng = np.random.default_rng([r["seed"], self.first + k])
        images, rows = [], []
        for n in range(r["batch"]):
            if n < r["real_in_batch"]:
                image, row = sample(self.real, int(rng.integers(len(self.real))), rng, r["zoom_real"])
            else:
                i = min(int(np.searchsorted(self.odds, rng.random())), len(self.simulated) - 1)
                image, row = sample(self.simulated, i, rng, r["zoom"])
            images.append(image)
            rows.append(row)
        return np.stack(images), np.stack(rows)

