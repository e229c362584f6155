"""Simulated clips to packed sequences, as the agent would put them to the student.

A clip of the store is longer than the student's window: the window is laid into it anew each time, as the agent lays it
about a time zero that is not exactly the contact (trigger latency, a near miss, an event of others). The text before a
frame is the agent's (`models/student/src/prompt.rs`).
"""

import numpy as np
import torch
from tokenizers import Tokenizer

from pack import Branch, collate, pack, prefix
from store import KINDS, PATCH

GRAVITY = 9.80665
# The questions of the small student: short, our own wording. They go into its model file.
QUESTIONS = {
    "recognition": "Does a collision happen?",
    "description": "Who hits whom?",
    "cause": "Why?",
    "prevention": "What would have helped?",
    "localization": "From when to when?",
    "pre_crash": "First sign?",
    "severity": "How severe?",
}
NONE = "no collision"
# Hints: what the hidden state at a frame is asked in training alone.
STATES = ["nothing", "danger", "crash", "after"]


def tenths(value):
    """A number as the agent writes it before a frame (`prompt.rs`): one digit, no negative zero, `?` if absurd."""
    if value is None or not np.isfinite(value) or abs(value) > 999.95:
        return "?"
    text = f"{value:.1f}"
    return text[1:] if text.startswith("-") and set(text[1:]) <= set("0.") else text


def turned(axes, rng):
    """The vehicle's axes as the agent finds them: some degrees off."""
    if rng is None:
        return axes
    x, y, z = np.radians(rng.normal(0, [1.0, 1.0, 2.5]))
    small = np.array([[1, -z, y], [z, 1, -x], [-y, x, 1]])
    return small @ axes


def telemetry(clip, imu, bus, first, recipe, rng):
    """Telemetry of each frame as `prompt.rs` takes it: acceleration and heading as block means and sums over the frame
    interval before the frame, speed. One row a frame: three accelerations, heading change, speed or None."""
    axes = turned(np.asarray(clip["axes"], dtype=np.float64), rng)
    step, hz = 1.0 / recipe["fps"], recipe["imu_hz"]
    which = 1.0 if rng is None else rng.random()
    rows = []
    for k in range(first, first + recipe["frames"]):
        t = k / recipe["fps"]
        a, b = int(round(max(0.0, t - step) * hz)), int(round(t * hz))
        part = imu[a : max(b, a + 1)].astype(np.float64)
        acc = axes @ part[:, :3].mean(0) - [0.0, 0.0, GRAVITY]
        yaw = np.degrees((part[:, 3:] @ axes.T)[:, 2].sum() / hz)
        # Speed by the bus; in some units by the satellites alone, in some not at all.
        speed = bus[k][0] if which >= 0.25 else (bus[k][5] if which >= 0.07 and bus[k][6] < 2.0 else None)
        rows.append([*acc, yaw, speed])
    return rows


def row_text(row):
    x, y, z, yaw, speed = map(tenths, row)
    return f" a {x} {y} {z} h {yaw} v {speed}"


def answers(clip, begin, recipe):
    """The answer of each task in words. Times count from the first frame that is sent."""
    length = recipe["frames"] / recipe["fps"]
    happened = clip["severity"] == "collision"
    out = {
        "severity": clip["severity"].replace("_", "-"),
        "recognition": "Yes" if happened else "No",
        "description": clip["description"]["text"],
        "cause": clip["cause"]["text"],
        "prevention": clip["prevention"]["text"],
    }
    times = truth_times(clip, begin, length)
    if times:
        (a, b), sign = times
        out["localization"], out["pre_crash"] = f"{a:.1f} - {b:.1f} seconds", f"{sign:.1f} seconds"
    else:
        out["localization"] = out["pre_crash"] = NONE
    return out


def truth_times(clip, begin, length):
    """Crash interval and first sign from the window's begin, cut to the window; None without a collision."""
    if clip["severity"] != "collision" or not clip["crash_s"]:
        return None
    cut = lambda t: min(max(0.0, t - begin), length)
    return tuple(cut(t) for t in clip["crash_s"]), cut(clip["sign_s"])


class Writer:
    """Text to ids, piece by piece as the agent encodes it."""

    def __init__(self, path):
        self.tokenizer = Tokenizer.from_file(path)
        ids = self.tokenizer.token_to_id
        self.start, self.end, self.image = ids("<|im_start|>"), ids("<|im_end|>"), ids("<image>")
        self.close = [self.end] + self.plain("\n") + [self.start] + self.plain("assistant\n")
        self.known = {}

    def plain(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def cached(self, text):
        if text not in self.known:
            self.known[text] = self.plain(text)
        return self.known[text]

    def branches(self, said, recipe):
        weights = recipe["weights"]
        return [
            Branch(self.cached("\n" + QUESTIONS[task]) + self.close, self.cached(said[task]) + [self.end], weights[task])
            for task in recipe["tasks"]
        ]


def look(frames, rng):
    """What differs from camera to camera: brightness and contrast. Noise and blur are the simulator's."""
    if rng is None or rng.random() < 0.3:
        return np.array(frames)
    levels = (np.arange(256) - 128) * rng.uniform(0.85, 1.15) + (128 + rng.uniform(-12, 12))
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)[frames]


def kept(frames, recipe, rng):
    """Which vision tokens are sent: all, or, as the agent leaves out what did not change, fewer after the first frame."""
    side = 2 * PATCH
    rows, cols = recipe["height"] // side, recipe["width"] // side
    keep = np.ones((recipe["frames"], rows * cols), dtype=bool)
    if rng is not None and rng.random() < recipe["pruned"]:
        change = np.abs(np.diff(frames[..., 1].astype(np.int16), axis=0))
        change = change.reshape(len(change), rows, side, cols, side).mean((2, 4)).reshape(len(change), -1)
        keep[1:] = change > rng.uniform(0.5, 4.0)
        keep[:, 0] = True
    return keep


def place_window(clip, recipe, rng):
    """The first frame of the window in the stored clip. Half the time so that the contact lies as the agent lays an impact,
    else anywhere: events of others and near misses have another time zero."""
    last = recipe["drawn_frames"] - recipe["frames"]
    if clip["contact_s"] is not None and (rng is None or rng.random() < 0.5):
        wanted = (clip["contact_s"] - clip["begin_s"] - recipe["before_s"]) * recipe["fps"]
        return int(np.clip(round(wanted), 1, last))
    return 1 + (clip["seed"] % last if rng is None else int(rng.integers(last)))


def merge_order(cells):
    """frames x rows x cols to frames x patches, in the order of the tower."""
    f, rows, cols = cells.shape
    return cells.reshape(f, rows // 2, 2, cols // 2, 2).transpose(0, 1, 3, 2, 4).reshape(f, -1)


def hints(clip, round_, i, first, recipe, codes):
    """Targets of the training hints for the window's frames."""
    last = first + recipe["frames"]
    t = clip["begin_s"] + np.arange(first, last) / recipe["fps"]
    state = np.zeros(recipe["frames"], dtype=np.int64)
    if clip["contact_s"] is not None:
        state[(t >= clip["sign_s"]) & (t < clip["contact_s"])] = 1
        if clip["crash_s"]:
            a, b = clip["crash_s"]
            state[(t >= a) & (t <= b)], state[t > b] = 2, 3
    danger = codes["cause"].get(clip["danger"], 0)
    ever = np.maximum.accumulate(state > 0)
    return {
        "kind": merge_order(round_.kind[i, first:last]).astype(np.int64),
        "far": merge_order(round_.far[i, first:last]).astype(np.float32),
        "state": state,
        "danger": np.where(ever, danger, 0),
        "what": np.where(state >= 2, codes["description"].get(clip["description"]["code"], 0), 0),
        "speed": round_.bus[i, first:last, 0] / 10.0,
    }


def window(round_, i, recipe, rng):
    """First frame, pictures and telemetry of one clip's window."""
    clip = round_.clips[i]
    first = place_window(clip, recipe, rng)
    frames = look(round_.frames[i, first : first + recipe["frames"]], rng)
    return first, frames, telemetry(clip, round_.imu[i], round_.bus[i], first, recipe, rng)


def sample(writer, round_, i, recipe, rng, with_telemetry, codes):
    """One clip: packed, its frames, its hints."""
    clip = round_.clips[i]
    first, frames, rows = window(round_, i, recipe, rng)
    texts = [row_text(r) for r in rows] if with_telemetry else [""] * recipe["frames"]
    # A camera's frames come up to a frame's length after the window's places.
    late = rng.uniform(0, 0.08, recipe["frames"]) if rng is not None and rng.random() < 0.5 else np.zeros(recipe["frames"])
    heads = [f"Time {tenths(k / recipe['fps'] + late[k] - late[0])}s{text}:" for k, text in enumerate(texts)]
    segments = [writer.plain(("user\n" if k == 0 else ",") + head) for k, head in enumerate(heads)]
    per_frame = (recipe["height"] // (2 * PATCH)) * (recipe["width"] // (2 * PATCH))
    ids, slots, ends = prefix([writer.start], segments, per_frame, writer.image, kept(frames, recipe, rng))
    said = answers(clip, clip["begin_s"] + first / recipe["fps"], recipe)
    return pack(ids, slots, ends, writer.branches(said, recipe)), frames, hints(clip, round_, i, first, recipe, codes)


def batch_of(made, recipe, with_telemetry):
    """Samples to one batch of tensors: the packed texts, frames, hints."""
    length = recipe["tokens"][1 if with_telemetry else 0]
    packed = collate([p for p, _, _ in made], length, recipe["answer_tokens"])
    frames = torch.from_numpy(np.stack([f for _, f, _ in made]))
    told = {k: torch.from_numpy(np.stack([h[k] for _, _, h in made])) for k in made[0][2]}
    return packed, frames, told
