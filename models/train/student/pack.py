"""Clips to packed sequences: one prefix (frames, telemetry) and the answers of all tasks as branches of it.

A branch sees the whole prefix and itself, never another branch; its positions go on where the prefix ends. That is how
the agent decodes (all tasks on one prefix), so training and use have the same mask.
"""

from dataclasses import dataclass

import numpy as np
import torch

IGNORED = -100


@dataclass(frozen=True)
class Branch:
    """A question as token ids, its answer as token ids (with the end mark), and the weight of the whole answer."""

    question: list
    answer: list
    weight: float


@dataclass(frozen=True)
class Packed:
    """One clip ready for a batch. All arrays have one entry a token."""

    ids: np.ndarray
    image_slots: np.ndarray
    positions: np.ndarray
    branch: np.ndarray  # 0 in the prefix, 1.. in the branches
    targets: np.ndarray
    weights: np.ndarray
    task: np.ndarray  # which branch a target belongs to, -1 elsewhere


def prefix(head, segments, per_frame, image_token, keep):
    """Token ids and image slots of the prefix.

    `head`: ids before everything; `segments`: ids before the tokens of each frame; `keep`: frames x per_frame, which
    vision tokens are not pruned.
    """
    ids, slots = list(head), [-1] * len(head)
    for frame, text in enumerate(segments):
        kept = np.flatnonzero(keep[frame])
        ids += list(text) + [image_token] * len(kept)
        slots += [-1] * len(text) + [frame * per_frame + int(k) for k in kept]
    return ids, slots


def pack(ids, slots, branches):
    """The packed sequence of one clip."""
    n = len(ids)
    ids, slots = list(ids), list(slots)
    positions, branch = list(range(n)), [0] * n
    targets, weights, task = [IGNORED] * n, [0.0] * n, [-1] * n
    for number, b in enumerate(branches):
        tokens = b.question + b.answer
        ids += tokens
        slots += [-1] * len(tokens)
        positions += range(n, n + len(tokens))
        branch += [number + 1] * len(tokens)
        # The last token of the question predicts the first of the answer; the end mark predicts nothing.
        silent = len(b.question) - 1
        targets += [IGNORED] * silent + b.answer + [IGNORED]
        weights += [0.0] * silent + [b.weight / len(b.answer)] * len(b.answer) + [0.0]
        task += [-1] * silent + [number] * len(b.answer) + [-1]
    as_int = lambda v: np.asarray(v, dtype=np.int64)
    return Packed(as_int(ids), as_int(slots), as_int(positions), as_int(branch), as_int(targets),
                  np.asarray(weights, dtype=np.float32), as_int(task))


def collate(clips, multiple=64):
    """A batch: arrays padded to a multiple (few shapes keep compiled kernels few), and the mask of the branches."""
    longest = max(len(c.ids) for c in clips)
    n = -(-longest // multiple) * multiple
    def padded(name, fill):
        rows = [np.pad(getattr(c, name), (0, n - len(c.ids)), constant_values=fill) for c in clips]
        return torch.from_numpy(np.stack(rows))
    branch = padded("branch", -1)
    causal = torch.tril(torch.ones(n, n, dtype=torch.bool))
    same = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
    mask = causal & same
    # A row of padding may look at itself: a row that may look nowhere gives NaN.
    mask |= torch.eye(n, dtype=torch.bool)
    return {
        "ids": padded("ids", 0),
        "image_slots": padded("image_slots", -1),
        "positions": padded("positions", 0),
        "targets": padded("targets", IGNORED),
        "weights": padded("weights", 0.0),
        "task": padded("task", -1),
        "mask": mask[:, None],
    }
