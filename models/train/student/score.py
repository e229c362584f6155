"""Figures of a model file on held-out simulated clips, from the quantised file itself.

Prepares the windows of a split, has `score_clips` (models/student/examples) put them to the file as the worker does, and
holds the answers to the truth: exact answers, the times' overlap by CrashChat's rules, with telemetry and from video alone.
With --scores it writes the label's scores for `firmware-agent models calibrate`.

usage: score.py --recipe R.json --simulator PROGRAM --store FOLDER --scorer target/.../examples/score_clips \
           --model student.gguf --split test --clips 1000 [--out metrics.json] [--scores scores.jsonl]
"""

import argparse
import json
import os
import subprocess
import tempfile

import numpy as np

import clips as source
import store

SEVERITIES = ["collision", "near_collision", "normal"]
BINS = 15


def overlap(a, b):
    """Intersection over union of two intervals."""
    inner = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    outer = max(a[1], b[1]) - min(a[0], b[0])
    return inner / outer if outer > 0 else float(a == b)


def sign_overlap(said, truth, contact):
    """CrashChat's rule for the first sign: 0 at or after the contact and more than 0.5 s early, 1 up to that early, else the
    ratio of the two times to the accident."""
    if said >= contact or said < truth - 0.5:
        return 0.0
    if said <= truth:
        return 1.0
    a, b = contact - said, contact - truth
    return min(a, b) / max(a, b) if max(a, b) > 0 else 1.0


def ask(args, recipe, rounds, which, with_telemetry):
    """The answers of the model file for some clips."""
    with tempfile.TemporaryDirectory(dir=args.store) as folder:
        firsts = []
        with open(os.path.join(folder, "windows.jsonl"), "w") as lines, open(os.path.join(folder, "frames.bin"), "wb") as out:
            for at, i in which:
                first, frames, rows = source.window(rounds[at], i, recipe, None)
                firsts.append(first)
                out.write(np.ascontiguousarray(frames).tobytes())
                rows = [[None if v is None else round(float(v), 4) for v in r] for r in rows] if with_telemetry else None
                lines.write(json.dumps({"rows": rows, "times": [k / recipe["fps"] for k in range(recipe["frames"])]}) + "\n")
        done = subprocess.run([args.scorer, args.model, folder], stdout=subprocess.PIPE, text=True, check=True)
    return firsts, [json.loads(line) for line in done.stdout.splitlines()]


def mean(values):
    return round(float(np.mean(values)), 4) if len(values) else None


def interval(values, rng):
    """95 % by bootstrap over clips."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        return None
    draws = values[rng.integers(len(values), size=(1000, len(values)))].mean(1)
    return [round(float(v), 4) for v in np.percentile(draws, [2.5, 97.5])]


def judge(recipe, rounds, which, firsts, said):
    """Per-clip figures by name: lists of 0 and 1, or of overlaps."""
    out = {k: [] for k in ("severity3", "severity2", "recognition", "description", "cause", "prevention",
                           "description_of_collisions", "cause_of_collisions", "localization_iou", "pre_crash_iou",
                           "answer_ms", "all_ms")}
    length, scores = recipe["frames"] / recipe["fps"], []
    for (at, i), first, a in zip(which, firsts, said):
        clip = rounds[at].clips[i]
        begin = clip["begin_s"] + first / recipe["fps"]
        happened = clip["severity"] == "collision"
        if a["severity"]:
            best = int(np.argmax(a["severity"]))
            out["severity3"].append(SEVERITIES[best] == clip["severity"])
            out["severity2"].append((best == 0) == happened)
        out["recognition"].append((a["z"] > 0) == happened)
        for task in ("description", "cause", "prevention"):
            right = a[task] == clip[task]["text"]
            out[task].append(right)
            if happened and task != "prevention":
                out[f"{task}_of_collisions"].append(right)
        times = source.truth_times(clip, begin, length)
        if times:
            # An answer that is missing overlaps with nothing.
            out["localization_iou"].append(overlap(a["crash"], times[0]) if a["crash"] else 0.0)
            sign = a["pre_crash"]
            out["pre_crash_iou"].append(sign_overlap(sign[0], times[1], times[0][0]) if sign else 0.0)
        out["answer_ms"].append(a["answer_ms"])
        out["all_ms"].append(a["all_ms"])
        scores.append({"z": a["z"], "collision": happened, "p": a["probability"]})
    return out, scores


def calibration_error(scores):
    p, y = np.array([s["p"] for s in scores]), np.array([s["collision"] for s in scores], dtype=float)
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    gap = sum(abs(p[bins == b].sum() - y[bins == b].sum()) for b in range(BINS))
    return round(float(gap / len(p)), 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("recipe", "simulator", "store", "scorer", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--split", default="validation", choices=["validation", "test"])
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--out")
    parser.add_argument("--scores")
    args = parser.parse_args()
    with open(args.recipe) as f:
        recipe = json.load(f)
    rounds, which = [], []
    while len(which) < args.clips:
        rounds.append(store.Round(store.ensure(args.simulator, recipe, args.store, args.split, len(rounds))))
        which += [(len(rounds) - 1, i) for i in range(len(rounds[-1]))]
    which = which[: args.clips]
    result, all_scores, rng = {"split": args.split, "clips": len(which)}, [], np.random.default_rng(0)
    for with_telemetry, name in ((True, "telemetry"), (False, "video")):
        firsts, said = ask(args, recipe, rounds, which, with_telemetry)
        figures, scores = judge(recipe, rounds, which, firsts, said)
        times = {k: figures.pop(k) for k in ("answer_ms", "all_ms")}
        result[name] = {k: {"mean": mean(v), "interval95": interval(v, rng), "of": len(v)} for k, v in figures.items()}
        result[name]["ece"] = calibration_error(scores)
        result[name] |= {f"{k}_median": round(float(np.median(v)), 1) for k, v in times.items()}
        all_scores += scores
    print(json.dumps(result, indent=1))
    if args.out:
        with open(args.out, "w") as f:
            json.dump(result, f, indent=1)
            f.write("\n")
    if args.scores:
        with open(args.scores, "w") as f:
            for s in all_scores:
                f.write(json.dumps({"z": s["z"], "collision": s["collision"]}) + "\n")


if __name__ == "__main__":
    main()
