"""Clips to packed sequences: one prefix (frames, telemetry) and the answers of all tasks as branches of it.

A branch sees the whole prefix and itself, never another branch; its positions go on where the prefix ends. That is how
the agent decodes (all tasks on one prefix), so training and use have the same mask.
"""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Branch:
    """A question as token ids, its answer as token ids (with the end mark), and the weight of the whole answer."""

    question: list
    answer: list
    weight: float


@dataclass(frozen=True)
class Packed:
    """One clip ready for a batch: arrays with one entry a token, and with one a token of an answer."""

    ids: np.ndarray
    image_slots: np.ndarray
    positions: np.ndarray
    branch: np.ndarray  # 0 in the prefix, 1.. in the branches
    frame_ends: np.ndarray  # place of the last vision token of each frame
    at: np.ndarray  # the place that predicts an answer's token
    targets: np.ndarray  # that token
    weights: np.ndarray
    task: np.ndarray


def prefix(head, segments, per_frame, image_token, keep):
    """Token ids and image slots of the prefix, and where the vision tokens of each frame end.

    `head`: ids before everything; `segments`: ids before the tokens of each frame; `keep`: frames x per_frame, which
    vision tokens are not pruned.
    """
    ids, slots, ends = list(head), [-1] * len(head), []
    for frame, text in enumerate(segments):
        kept = np.flatnonzero(keep[frame])
        ids += list(text) + [image_token] * len(kept)
        slots += [-1] * len(text) + [frame * per_frame + int(k) for k in kept]
        ends.append(len(ids) - 1)
    return ids, slots, ends


def pack(ids, slots, ends, branches):
    """The packed sequence of one clip."""
    n = len(ids)
    ids, slots = list(ids), list(slots)
    positions, branch = list(range(n)), [0] * n
    at, targets, weights, task = [], [], [], []
    for number, b in enumerate(branches):
        # The last token of the question predicts the first of the answer; the end mark predicts nothing and is left out.
        tokens = b.question + b.answer[:-1]
        first = len(ids) + len(b.question) - 1
        ids += tokens
        slots += [-1] * len(tokens)
        positions += range(n, n + len(tokens))
        branch += [number + 1] * len(tokens)
        at += range(first, first + len(b.answer))
        targets += b.answer
        # Few tokens of a sentence decide which one it is: a long answer is worth a little more than a short one.
        weights += [b.weight / min(len(b.answer), 4)] * len(b.answer)
        task += [number] * len(b.answer)
    as_int = lambda v: np.asarray(v, dtype=np.int64)
    return Packed(as_int(ids), as_int(slots), as_int(positions), as_int(branch), as_int(ends), as_int(at),
                  as_int(targets), np.asarray(weights, dtype=np.float32), as_int(task))


def collate(clips, length, answers):
    """A batch: arrays padded to `length` tokens and `answers` tokens of answers (few shapes keep compiled kernels few)."""

    def padded(name, fill, size):
        rows = [np.pad(getattr(c, name), (0, size - len(getattr(c, name))), constant_values=fill) for c in clips]
        return torch.from_numpy(np.stack(rows))

    return {
        "ids": padded("ids", 0, length),
        "image_slots": padded("image_slots", -1, length),
        "positions": padded("positions", 0, length),
        "branch": padded("branch", -1, length),
        "frame_ends": torch.from_numpy(np.stack([c.frame_ends for c in clips])),
        "at": padded("at", 0, answers),
        "targets": padded("targets", 0, answers),
        "weights": padded("weights", 0.0, answers),
        "task": padded("task", -1, answers),
    }
