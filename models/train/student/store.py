"""A store of simulated clips: made once by `firmware-agent simulate --batch`, seen many times in training.

A *round* is a block of seeds; its folder holds NumPy arrays of the clips in the order of their seeds, and what of their
truths the training asks for. Rounds are made when they are first wanted (or ahead, by `store.py`), each aside and renamed
when it is whole, so that several makers and an interruption do no harm. A round is what the recipe makes it: deleting the
store changes nothing but time.

usage: store.py --recipe R.json --simulator PROGRAM --store FOLDER [--split train] [--from N] [--rounds N] [--every K]
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile

import numpy as np

# What can stand in the cell of a patch, for the training hints: road users as the simulator names them.
KINDS = ["car", "suv", "van", "truck", "bus", "motorbike", "cyclist", "pedestrian", "child", "animal", "cone", "barrier",
         "debris"]
PATCH = 14


def cells(frames, recipe, drawn):
    """For each patch of each frame: 1 + kind of the nearest road user that covers its middle (0: none), and its distance
    (decimetres, at most 255)."""
    rows, cols = recipe["height"] // PATCH, recipe["width"] // PATCH
    scale = recipe["width"] / drawn[0], recipe["height"] / drawn[1]
    y, x = np.mgrid[0:rows, 0:cols] * PATCH + PATCH / 2
    kind = np.zeros((len(frames), rows, cols), dtype=np.uint8)
    far = np.full((len(frames), rows, cols), 255, dtype=np.uint8)
    for f, frame in enumerate(frames):
        for track in sorted(frame["tracks"], key=lambda t: -np.hypot(*t["at_m"])):
            box = track.get("box_px")
            if box is None or track.get("visible", 1.0) < 0.2:
                continue
            left, top, right, bottom = box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1]
            # A small one counts where its middle is.
            grow_x, grow_y = max(0.0, PATCH - (right - left)) / 2, max(0.0, PATCH - (bottom - top)) / 2
            inside = (x >= left - grow_x) & (x < right + grow_x) & (y >= top - grow_y) & (y < bottom + grow_y)
            kind[f][inside] = 1 + KINDS.index(track["kind"]) if track["kind"] in KINDS else 0
            far[f][inside] = min(255, int(10 * np.hypot(*track["at_m"])))
    return kind, far


def shrink(frames, recipe):
    """To the student's size by the mean of areas, as the agent does (`worker/src/picture.rs`)."""
    n, f, h, w, _ = frames.shape
    a, b = h // recipe["height"], w // recipe["width"]
    assert (a * recipe["height"], b * recipe["width"]) == (h, w), "drawn is a multiple of the student's size"
    if a == b == 1:
        return np.array(frames)
    # Sums of slices: ten times as quick as a sum over two axes.
    total = np.full((n, f, recipe["height"], recipe["width"], 3), a * b // 2, dtype=np.uint16 if a * b <= 256 else np.uint32)
    for y in range(a):
        for x in range(b):
            total += frames[:, :, y::a, x::b]
    return (total // (a * b)).astype(np.uint8)


def drawn_of(recipe, split, number):
    """Size that a round is drawn in. `drawn_small` and `small_rounds` of the recipe: so many of three training rounds are
    drawn in the smaller size, which is quicker; what is held out is always drawn large and made smaller as the agent does."""
    small = split == "train" and number % 3 < recipe.get("small_rounds", 0)
    return recipe["drawn_small"] if small else recipe["drawn"]


def digest(clip):
    """What of a clip's truth is kept."""
    drive, event = clip["drive"], clip["drive"].get("event") or {}
    return {
        "seed": drive["seed"], "scenario": drive["scenario"], "severity": drive["severity"],
        "description": drive["description"], "cause": drive["cause"], "prevention": drive["prevention"],
        "danger": drive["danger"], "contact_s": event.get("contact_s"), "crash_s": event.get("crash_interval_s"),
        "sign_s": event.get("first_sign_s"), "ego": event.get("ego_takes_part"),
        "begin_s": clip["clip"]["begin_s"], "axes": drive["sensors"]["vehicle_from_sensor"],
        "night": drive["weather"]["night"],
    }


def shards(folder):
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".jsonl")):
        base = os.path.join(folder, name[: -len(".jsonl")])
        with open(base + ".jsonl") as f:
            clips = [json.loads(line) for line in f]
        yield clips, *(np.load(f"{base}.{kind}.npy", mmap_mode="r") for kind in ("frames", "imu", "bus"))


def simulate(simulator, recipe, drawn, seeds, split, folder, jobs):
    command = [simulator, "simulate", "--batch", "--seeds", f"{seeds[0]}..{seeds[1]}", "--split", split,
               "--out", folder, "--clip-s", str(recipe["drawn_frames"] / recipe["fps"] + 1e-3),
               "--fps", str(recipe["fps"]), "--imu-hz", str(recipe["imu_hz"]), "--width", str(drawn[0]),
               "--height", str(drawn[1]), "--per-shard", "64", "--jobs", str(jobs)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # 5: some seeds had no draw that ends as meant; they are left out.
    if done.returncode not in (0, 5):
        raise RuntimeError(f"the simulator ended with {done.returncode}: {done.stderr[-500:]}")


def seeds_of(recipe, split, number):
    """Rounds of training lie apart for each recipe seed; validation and test seeds are the same for all."""
    begin = recipe["seed"] * 1_000_000 if split == "train" else 0
    size = recipe["round"] if split == "train" else recipe["held_out_round"]
    return begin + number * size, begin + (number + 1) * size


def ensure(simulator, recipe, store, split, number, jobs=1):
    """The folder of a round, made if it is not there."""
    folder = os.path.join(store, f"{split}-{number:05d}")
    if os.path.exists(folder):
        return folder
    os.makedirs(store, exist_ok=True)
    made, out = tempfile.mkdtemp(prefix=".clips-", dir=store), tempfile.mkdtemp(prefix=".round-", dir=store)
    try:
        drawn = drawn_of(recipe, split, number)
        simulate(simulator, recipe, drawn, seeds_of(recipe, split, number), split, made, jobs)
        parts = {k: [] for k in ("frames", "imu", "bus", "kind", "far")}
        clips = []
        for truths, frames, imu, bus in shards(made):
            clips += [digest(t) for t in truths]
            hints = [cells(t["clip"]["frames"], recipe, drawn) for t in truths]
            parts["frames"].append(shrink(frames, recipe))
            parts["imu"].append(np.array(imu))
            parts["bus"].append(np.array(bus))
            parts["kind"].append(np.stack([k for k, _ in hints]))
            parts["far"].append(np.stack([d for _, d in hints]))
        for kind, arrays in parts.items():
            np.save(os.path.join(out, f"{kind}.npy"), np.concatenate(arrays))
        with open(os.path.join(out, "clips.json"), "w") as f:
            json.dump(clips, f)
        try:
            os.rename(out, folder)
        except OSError:
            # Another maker was faster, with the same bytes.
            if not os.path.exists(folder):
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
    return folder


class Round:
    """The clips of one folder; arrays stay on disk until asked for."""

    def __init__(self, folder):
        with open(os.path.join(folder, "clips.json")) as f:
            self.clips = json.load(f)
        load = lambda kind: np.load(os.path.join(folder, f"{kind}.npy"), mmap_mode="r")
        self.frames, self.imu, self.bus, self.kind, self.far = map(load, ("frames", "imu", "bus", "kind", "far"))

    def __len__(self):
        return len(self.clips)


def main():
    parser = argparse.ArgumentParser(description="makes rounds of clips ahead of the training")
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--simulator", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--split", default="train", choices=["train", "validation", "test"])
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="only each K-th round, for K makers side by side")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    with open(args.recipe) as f:
        recipe = json.load(f)
    for number in range(args.first, args.first + args.rounds, args.every):
        print(ensure(args.simulator, recipe, args.store, args.split, number, args.jobs), flush=True)


if __name__ == "__main__":
    main()
