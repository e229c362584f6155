"""Simulated clips for the student: made by `firmware-agent simulate --batch`, turned to packed sequences.

The clips of a run stand in one order: round r of the stream is the seeds A + r N to A + (r + 1) N of the split, made
anew by the simulator when they are needed and deleted when they have been seen. Nothing but the recipe decides which
clip is the n-th, how it is changed (noise, brightness, telemetry left out, tokens pruned), and so two runs agree.
"""

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from pack import Branch, collate, pack, prefix

GRAVITY = 9.80665
# The questions of the small student: short, our own wording. They go into its model file.
QUESTIONS = {
    "recognition": "Does a collision happen?",
    "description": "Who hits whom?",
    "cause": "Why?",
    "prevention": "What would have helped?",
    "localization": "From when to when does it happen?",
    "pre_crash": "When is the first sign of it seen?",
    "severity": "How severe is it?",
}
NONE = "no collision"


def tenths(value):
    """A number as the agent writes it before a frame (`prompt.rs`): one digit, no negative zero, `?` if absurd."""
    if not np.isfinite(value) or abs(value) > 999.95:
        return "?"
    text = f"{value:.1f}"
    return text[1:] if text.startswith("-") and set(text[1:]) <= set("0.") else text


def telemetry(clip, imu, bus, recipe):
    """Text of each frame's telemetry, as `prompt.rs` writes it: block means over the frame interval before the frame."""
    truth = clip["drive"]["sensors"]
    turn = np.asarray(truth["vehicle_from_sensor"], dtype=np.float64)
    step = 1.0 / recipe["fps"]
    rows = []
    for k, t in enumerate(clip["clip"]["frame_times_s"]):
        a, b = int(round(max(0.0, t - step) * recipe["imu_hz"])), int(round(t * recipe["imu_hz"]))
        part = imu[a : max(b, a + 1)].astype(np.float64)
        acc = turn @ part[:, :3].mean(0) - [0.0, 0.0, GRAVITY]
        yaw = np.degrees((part[:, 3:] @ turn.T)[:, 2].sum() / recipe["imu_hz"])
        x, y, z = (tenths(v) for v in acc)
        rows.append(f" a {x} {y} {z} h {tenths(yaw)} v {tenths(bus[k][0])}")
    return rows


def answers(clip, recipe):
    """The answer of each task in words. Times count from the first frame that is sent."""
    drive, begin = clip["drive"], clip["clip"]["begin_s"] + recipe["dropped"] / recipe["fps"]
    length = recipe["frames"] / recipe["fps"]
    severity = drive["severity"].replace("_", "-")
    out = {"severity": severity}
    happened = severity == "collision"
    event = drive.get("event") or {}
    out["recognition"] = "Yes" if happened else "No"
    out["description"] = drive["description"]["text"]
    out["cause"] = drive["cause"]["text"]
    out["prevention"] = drive["prevention"]["text"]
    if happened and event.get("crash_interval_s"):
        a, b = (min(max(0.0, t - begin), length) for t in event["crash_interval_s"])
        out["localization"] = f"{a:.1f} - {b:.1f} seconds"
        out["pre_crash"] = f"{min(max(0.0, event['first_sign_s'] - begin), length):.1f} seconds"
    else:
        out["localization"] = out["pre_crash"] = NONE
    return out


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


def prepare(frames, recipe, rng):
    """Frames (count x h x w x 3, uint8) to the student's size, with what a camera and its encoder do to them.

    The simulator draws larger and of a camera's aspect; the agent scales to the window's size in the same way.
    """
    x = torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, size=(recipe["height"], recipe["width"]), mode="bicubic", antialias=True, align_corners=False)
    if rng is not None:
        x = (x - 128) * rng.uniform(0.85, 1.15) + 128 + rng.uniform(-12, 12)
        noise = torch.from_numpy(rng.standard_normal(x.shape[0:1] + (1,) + x.shape[2:]).astype(np.float32))
        x = x + noise * rng.uniform(0, 3)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def keep_all(recipe, rng):
    """Which vision tokens are sent: all, or, as the agent prunes still pictures, fewer after the first frame."""
    per_frame = (recipe["height"] // 28) * (recipe["width"] // 28)
    keep = np.ones((recipe["frames"], per_frame), dtype=bool)
    if rng is not None and rng.random() < recipe["pruned"]:
        keep[1:] = rng.random(keep[1:].shape) > rng.uniform(0, 0.7)
        keep[:, 0] = True
    return keep


def sample(writer, clip, frames, imu, bus, recipe, rng, with_telemetry):
    """One clip, packed; and its frames."""
    drop = recipe["dropped"]
    rows = telemetry(clip, imu, bus, recipe)[drop:] if with_telemetry else [""] * recipe["frames"]
    heads = [f"Time {tenths(k / recipe['fps'])}s{row}:" for k, row in enumerate(rows)]
    segments = [writer.plain(("user\n" if k == 0 else ",") + head) for k, head in enumerate(heads)]
    per_frame = (recipe["height"] // 28) * (recipe["width"] // 28)
    ids, slots = prefix([writer.start], segments, per_frame, writer.image, keep_all(recipe, rng))
    packed = pack(ids, slots, writer.branches(answers(clip, recipe), recipe))
    return packed, prepare(frames[drop:], recipe, rng)


def make(args, recipe, seeds, split, folder, jobs):
    """Has the simulator make a batch of seeds."""
    command = [args.simulator, "simulate", "--batch", "--seeds", f"{seeds[0]}..{seeds[1]}", "--split", split,
               "--out", folder, "--clip-s", str((recipe["frames"] + recipe["dropped"]) / recipe["fps"] + 1e-3),
               "--fps", str(recipe["fps"]), "--imu-hz", str(recipe["imu_hz"]), "--width", str(recipe["drawn"][0]),
               "--height", str(recipe["drawn"][1]), "--per-shard", str(recipe["per_shard"]), "--jobs", str(jobs)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # 5: some seeds had no draw that ends as meant; they are left out.
    if done.returncode not in (0, 5):
        raise RuntimeError(f"the simulator ended with {done.returncode}: {done.stderr[-500:]}")


def shards(folder):
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".jsonl")):
        base = os.path.join(folder, name[: -len(".jsonl")])
        with open(base + ".jsonl") as f:
            clips = [json.loads(line) for line in f]
        load = lambda kind: np.load(f"{base}.{kind}.npy", mmap_mode="r")
        frames, imu, bus = load("frames"), load("imu"), load("bus")
        for i, clip in enumerate(clips):
            yield clip, frames[i], imu[i], bus[i]


def batch_of(writer, group, recipe, rngs, telemetry_of):
    """Clips to one batch of tensors."""
    made = [sample(writer, *clip, recipe, rng, t) for clip, rng, t in zip(group, rngs, telemetry_of)]
    return collate([p for p, _ in made]), torch.stack([f for _, f in made])


def training(recipe, args, first_clip):
    """Batches without end, from the `first_clip`-th clip of the stream on."""
    ready = queue.Queue(maxsize=recipe["rounds_ahead"])

    def maker():
        # Rounds before the first clip are counted by their manifests alone when they must be made anew.
        at, number = 0, 0
        while True:
            folder = tempfile.mkdtemp(prefix="clips-", dir=args.out)
            begin = recipe["seed"] * 1_000_000 + number * recipe["round"]
            number += 1
            if known(args, number - 1) is not None and at + known(args, number - 1) <= first_clip:
                at += known(args, number - 1)
                shutil.rmtree(folder)
                continue
            make(args, recipe, (begin, begin + recipe["round"]), "train", folder, args.workers)
            with open(os.path.join(folder, "manifest.json")) as f:
                count = json.load(f)["clips"]
            remember(args, number - 1, count)
            ready.put((at, folder))
            at += count

    threading.Thread(target=maker, daemon=True).start()
    writer, group, place = Writer(args.tokenizer), [], 0
    while True:
        place, folder = ready.get()
        for offset, clip in enumerate(shards(folder)):
            n = place + offset
            if n < first_clip:
                continue
            group.append((n, clip))
            if len(group) == recipe["batch"]:
                rngs = [np.random.default_rng((recipe["seed"], n)) for n, _ in group]
                with_telemetry = [rng.random() >= recipe["telemetry_dropout"] for rng in rngs]
                yield batch_of(writer, [c for _, c in group], recipe, rngs, with_telemetry)
                group = []
        shutil.rmtree(folder, ignore_errors=True)


def known(args, number):
    """How many clips a round had, if it was made before."""
    path = os.path.join(args.out, "rounds.json")
    if not os.path.exists(path):
        return None
    with open(path) as f:
        return json.load(f).get(str(number))


def remember(args, number, count):
    path = os.path.join(args.out, "rounds.json")
    rounds = {}
    if os.path.exists(path):
        with open(path) as f:
            rounds = json.load(f)
    rounds[str(number)] = count
    with open(path + ".part", "w") as f:
        json.dump(rounds, f)
    os.replace(path + ".part", path)


def validation(recipe, args):
    """Batches of the validation split, half with telemetry: kept for the whole run."""
    folder = os.path.join(args.out, "validation")
    if not os.path.exists(os.path.join(folder, "manifest.json")):
        os.makedirs(folder, exist_ok=True)
        make(args, recipe, (0, recipe["validation_seeds"]), "validation", folder, args.workers)
    writer, out, group = Writer(args.tokenizer), [], []
    for clip in shards(folder):
        group.append(clip)
        if len(group) == recipe["batch"]:
            out.append(batch_of(writer, group, recipe, [None] * len(group), [i % 2 == 0 for i in range(len(group))]))
            group = []
    if group:
        out.append(batch_of(writer, group, recipe, [None] * len(group), [i % 2 == 0 for i in range(len(group))]))
    return out


def export(student, log, recipe, args):
    """The finished student as a checkpoint that `firmware-agent models import` reads."""
    from safetensors.torch import save_file

    out = os.path.join(args.out, "checkpoint")
    os.makedirs(out, exist_ok=True)
    writer = Writer(args.tokenizer)
    state = {k: v.detach().float().cpu().contiguous() for k, v in student.state_dict().items()}
    save_file(state, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    tokens = {"bos_token_id": writer.start, "eos_token_id": writer.end}
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(student.shape.config(writer.image, tokens), f, indent=1)
    with open(os.path.join(out, "preprocessor_config.json"), "w") as f:
        json.dump({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "min_tokens": 16, "max_tokens": 10240,
                   "patch_size": 14, "merge_size": 2}, f, indent=1)
    shutil.copy(args.tokenizer, os.path.join(out, "tokenizer.json"))
    with open(os.path.join(out, "training.json"), "w") as f:
        json.dump({"recipe": recipe, "log": log}, f, indent=1)
    with open(os.path.join(out, "questions.json"), "w") as f:
        json.dump({"prompts": QUESTIONS}, f, indent=1)
    print(f"checkpoint in {out}", flush=True)
