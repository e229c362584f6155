"""Writes what stands beside the shipped student: its manifest (TOML, as `models pull` reads it, without a place to fetch it
from), its figures (JSON) and a page with the table of goals. usage: manifest.py WORK TRAINING.json OUT, from ship.sh."""

import hashlib
import json
import os
import sys


# The goals of the small student: figure, with telemetry, from video alone.
GOALS = [
    ("Severity, collision or not", "severity2", 0.95, 0.85),
    ("Severity, three classes", "severity3", None, None),
    ("Recognition (yes or no)", "recognition", None, None),
    ("Description exact", "description", 0.85, 0.85),
    ("Description exact, of collisions", "description_of_collisions", None, None),
    ("Cause exact", "cause", 0.75, 0.75),
    ("Cause exact, of collisions", "cause_of_collisions", None, None),
    ("Prevention exact", "prevention", None, None),
    ("Crash localization, mIoU", "localization_iou", 0.70, 0.70),
    ("First sign, mIoU", "pre_crash_iou", 0.50, 0.50),
]


def cell(figures, name):
    f = figures[name]
    return "-" if f["mean"] is None else f"{f['mean']:.2f} ({f['interval95'][0]:.2f} to {f['interval95'][1]:.2f})"


def page(figures):
    test, verify = figures["test"], figures["verify"]
    goal = lambda v: "" if v is None else f"{v:.2f}"
    rows = [f"| {words} | {goal(a)} | {cell(test['telemetry'], key)} | {goal(b)} | {cell(test['video'], key)} |"
            for words, key, a, b in GOALS]
    window = verify["window"]
    return f"""# The small student

`student.gguf`, Q8_0, {figures['bytes'] / 1e6:.1f} MB, {verify['parameters'] / 1e6:.1f} million parameters, {window['frames']} frames of \
{window['width']}x{window['height']} at {window['fps']:g} a second from {window['before_s']:.3g} s before time zero. It was trained on simulated roads
(`firmware-agent simulate`) and **knows simulated roads only**: it is for trying, testing and simulation. Production takes the
real CrashChat weights. Apache-2.0, ours.

`student.toml` is its manifest, `student.recipe.json` what it was trained by, `student.metrics.json` all figures with the log of the
training. Made by [models/train/student](../train/README.md); `firmware-agent models verify` checks it.

## Figures

{test['clips']} clips of test seeds that training never saw, from the quantised file itself, 95 % intervals by bootstrap; an event's
window lies as the agent lays it about an impact. Of the clips {100 * (1 - test['telemetry']['description_of_collisions']['of'] / test['clips']):.0f} % have no collision ("no collision" is then the right description).

| | goal with telemetry | with telemetry | goal video alone | video alone |
|---|---|---|---|---|
""" + "\n".join(rows) + f"""

Calibration error of the label (15 bins): {test['telemetry']['ece']:.3f} with telemetry, {test['video']['ece']:.3f} from video alone. The answers take {test['telemetry']['answer_ms_median']:.0f} ms \
after the last frame and {test['telemetry']['all_ms_median']:.0f} ms with all frames (medians, two shared CPU cores).
"""


def load(path):
    with open(path) as f:
        return json.load(f)


def main():
    work, training, out = sys.argv[1:]
    with open(os.path.join(out, "student.gguf"), "rb") as f:
        data = f.read()
    figures = {
        "file": "student.gguf", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
        "trained_on": "simulated", "verify": load(os.path.join(work, "verify.json")),
        "calibration": load(os.path.join(work, "calibration.json"))["calibration"],
        "validation": load(os.path.join(work, "validation.json")) if os.path.exists(os.path.join(work, "validation.json")) else None,
        "test": load(os.path.join(work, "test.json")),
        "training_log": load(training)["log"],
    }
    with open(os.path.join(out, "student.metrics.json"), "w") as f:
        json.dump(figures, f, indent=1)
        f.write("\n")
    with open(os.path.join(out, "README.md"), "w") as f:
        f.write(page(figures).replace(" \\\n", " "))
    with open(os.path.join(out, "student.toml"), "w") as f:
        f.write("# Manifest of the small student. It knows simulated roads only.\n")
        f.write(f'file = "student.gguf"\nsize = {len(data)}\nsha256 = "{figures["sha256"]}"\n')
        f.write(f'weights_sha256 = "{figures["verify"]["weights_sha256"]}"\ntrained_on = "simulated"\n')
        f.write('\n[licence]\nname = "Apache-2.0"\nurl = "https://www.apache.org/licenses/LICENSE-2.0"\n')


if __name__ == "__main__":
    main()
