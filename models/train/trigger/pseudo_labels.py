"""Pseudo-labels by YOLOX-nano on the real clips that may be trained on (MIT: carnd_*), as one .npz.

The last fifth of each clip, in time, is held out: it measures agreement and is never trained on. It is of the same roads.

    pseudo_labels.py --model yolox_nano.onnx --out real.npz CLIP.mp4 [CLIP.mp4 ...] [--any]

--any takes clips of other names, for looking and measuring alone (everything is then held out).
"""

import argparse
import os

import cv2
import numpy as np
import onnxruntime as ort

SIDE, LEAST = 416, 0.15
# COCO's numbers of person, bicycle, motorcycle, car, bus, truck.
COCO = [0, 1, 3, 2, 5, 7]
STORED = (512, 288)


def detect(session, bgr, least=LEAST, iou=0.5):
    """Rows of left, top, right, bottom (fractions), class, score."""
    h, w = bgr.shape[:2]
    ratio = min(SIDE / w, SIDE / h)
    small = cv2.resize(bgr, (int(w * ratio), int(h * ratio)), interpolation=cv2.INTER_LINEAR)
    x = np.full((SIDE, SIDE, 3), 114, np.uint8)
    x[: small.shape[0], : small.shape[1]] = small
    raw = session.run(None, {session.get_inputs()[0].name: x.transpose(2, 0, 1)[None].astype(np.float32)})[0][0]
    cells = []
    for s in (8, 16, 32):
        gy, gx = np.mgrid[0 : SIDE // s, 0 : SIDE // s]
        cells.append(np.stack((gx.ravel(), gy.ravel(), np.full(gx.size, s)), 1))
    cells = np.concatenate(cells).astype(np.float32)
    centre, size = (raw[:, :2] + cells[:, :2]) * cells[:, 2:], np.exp(raw[:, 2:4]) * cells[:, 2:]
    boxes = np.concatenate((centre - size / 2, centre + size / 2), 1) / ratio / [w, h, w, h]
    best = raw[:, 5:].argmax(1)
    scores = raw[:, 4] * raw[:, 5:].max(1)
    rows = []
    for i in np.argsort(-scores):
        if scores[i] < least:
            break
        if best[i] not in COCO:
            continue
        b = np.clip(boxes[i], 0, 1)
        # Of one object under two names the likelier stays.
        if all(overlap(b, r[:4]) <= iou for r in rows):
            rows.append([*b, COCO.index(best[i]), scores[i]])
    return np.array(rows, np.float32).reshape(-1, 6)


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both, 1e-9)


def frames(path, most):
    video = cv2.VideoCapture(path)
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    step = max(1, count // most)
    for k in range(count):
        ok, bgr = video.read()
        if not ok:
            return
        if k % step == 0:
            yield k / max(count, 1), bgr


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--most", type=int, default=160, help="frames of a clip")
    p.add_argument("--any", action="store_true")
    p.add_argument("clips", nargs="+")
    a = p.parse_args()
    session = ort.InferenceSession(a.model, providers=["CPUExecutionProvider"])
    images, owner, rows, held_out, clip = [], [], [], [], []
    for c, path in enumerate(a.clips):
        name = os.path.basename(path)
        if not name.startswith("carnd_") and not a.any:
            raise SystemExit(f"{name} is none of the clips that may be trained on")
        for at, bgr in frames(path, a.most):
            found = detect(session, bgr) * np.array([STORED[0], STORED[1], STORED[0], STORED[1], 1, 1], np.float32)
            owner += [len(images)] * len(found)
            rows.append(found)
            images.append(cv2.resize(bgr, STORED, interpolation=cv2.INTER_AREA)[..., ::-1])
            held_out.append(a.any or at >= 0.8)
            clip.append(c)
    np.savez(a.out, images=np.stack(images), owner=np.array(owner, np.int64), rows=np.concatenate(rows),
             held_out=np.array(held_out), clip=np.array(clip), names=[os.path.basename(n) for n in a.clips])
    print(f"{a.out}: {len(images)} frames, {len(owner)} boxes, {sum(held_out)} frames held out")


if __name__ == "__main__":
    main()
