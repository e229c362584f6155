"""Detections of a raw output, and average precision and agreement on labelled frames."""

import numpy as np
import torch

from data import IGNORE, plain
from model import CLASSES, boxes_of, grid

IOU = 0.5


def overlaps(box, boxes):
    w = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    h = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    both = np.maximum(w, 0) * np.maximum(h, 0)
    area = lambda b: (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    return both / np.maximum(area(box) + area(boxes) - both, 1e-9)


def detections(boxes, probabilities, least, iou=0.45):
    """Rows of box, class, score, as the agent's decoder gives them."""
    best = probabilities[:, 1:].argmax(1)
    scores = probabilities[:, 0] * probabilities[:, 1:].max(1)
    kept = []
    for i in np.flatnonzero(scores >= least)[np.argsort(-scores[scores >= least], kind="stable")][:200]:
        same = [k[:4] for k in kept if k[4] == best[i]]
        if not same or overlaps(boxes[i], np.array(same)).max() <= iou:
            kept.append([*boxes[i], best[i], scores[i]])
        if len(kept) == 32:
            break
    return np.array(kept, np.float32).reshape(-1, 6)


@torch.no_grad()
def look(model, images, least):
    """Detections of pictures of the input's size (n x h x w x 3, u8)."""
    model.eval()
    device = next(model.parameters()).device
    cells = grid(device)
    found = []
    for k in range(0, len(images), 32):
        x = torch.from_numpy(np.stack(images[k : k + 32])).to(device).permute(0, 3, 1, 2).float() / 255
        raw = model(x.contiguous(memory_format=torch.channels_last)).float()
        boxes, p = boxes_of(raw, cells).cpu().numpy(), raw[..., 4:].sigmoid().cpu().numpy()
        found += [detections(b, q, least) for b, q in zip(boxes, p)]
    return found


def match(rows, boxes, classes, by_class=True):
    """Of each detection, strongest first: right (1), wrong (0), neither (-1, on something ignored)."""
    taken, verdicts = set(), []
    for r in rows:
        o = overlaps(r[:4], boxes) if len(boxes) else np.zeros(0)
        fits = [i for i in np.argsort(-o) if o[i] >= IOU and i not in taken and classes[i] != IGNORE
                and (not by_class or classes[i] == r[4])]
        if fits:
            taken.add(fits[0])
            verdicts.append(1)
            continue
        spare = boxes[classes == IGNORE] if len(boxes) else boxes
        # Mostly within something ignored.
        if len(spare):
            w = np.minimum(r[2], spare[:, 2]) - np.maximum(r[0], spare[:, 0])
            h = np.minimum(r[3], spare[:, 3]) - np.maximum(r[1], spare[:, 1])
            inside = (np.maximum(w, 0) * np.maximum(h, 0)).max() / max((r[2] - r[0]) * (r[3] - r[1]), 1e-9)
        else:
            inside = 0
        verdicts.append(-1 if inside > 0.5 else 0)
    return verdicts


def average_precision(scores, right, total):
    """Area under the curve of precision made monotonous over recall."""
    if total == 0:
        return None
    order = np.argsort(-np.array(scores), kind="stable")
    hit = np.cumsum(np.array(right, float)[order]) if len(scores) else np.zeros(0)
    precision = hit / np.arange(1, len(hit) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate(([0], hit / total))
    return float(((recall[1:] - recall[:-1]) * best).sum())


def evaluate(model, source, count, threshold=0.3, side=0.0):
    """AP at an overlap of 0.5 per class and without classes; recall and precision at a threshold. Of simulated frames
    the same `count`, spread over all; `side`: boxes with a shorter side than this are ignored."""
    chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
    frames = [plain(*source.get(i)) for i in chosen]
    found = look(model, [f[0] for f in frames], 0.02)
    out, all_ap = {}, []
    for c in [*range(len(CLASSES)), None]:
        scores, right, total = [], [], 0
        for (_, boxes, classes), rows in zip(frames, found):
            small = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) < side
            classes = np.where(small, IGNORE, classes)
            if c is not None:
                rows = rows[rows[:, 4] == c]
                total += int((classes == c).sum())
            else:
                total += int((classes != IGNORE).sum())
            for r, v in zip(rows, match(rows, boxes, classes, by_class=c is not None)):
                if v >= 0:
                    scores.append(float(r[5]))
                    right.append(v)
        ap = average_precision(scores, right, total)
        strong = [v for s, v in zip(scores, right) if s >= threshold]
        row = {"boxes": total, "ap50": ap, "recall": sum(strong) / total if total else None,
               "precision": sum(strong) / len(strong) if strong else None}
        out["any class" if c is None else CLASSES[c]] = row
        if c is not None and ap is not None:
            all_ap.append(ap)
    return {"frames": len(frames), "threshold": threshold, "least_side_px": side, "mean_ap50": float(np.mean(all_ap)), **out}
