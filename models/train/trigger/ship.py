"""From a finished training to the files that ship: trigger.onnx, trigger.toml, trigger.metrics.json.

    ship.py --run DIR --validation DIR --test DIR --real real.npz [--peer-real others.npz] --out models/artifacts

Figures are of simulated test frames (seeds that training and choice never saw), and of the held-out frames of the real
clips, where the truth is YOLOX-nano's word: agreement with it, not accuracy. --peer-real: frames of clips that are never
trained on, measured the same way.
"""

import argparse
import hashlib
import json
import os

import torch

from data import Real, Simulated
from export import export
from model import CLASSES, HEIGHT, STRIDES, WIDTH, Detector
from score import evaluate

# Chosen on simulated validation frames and the held-out real ones: the best F1 over both, in steps of 0.05.
THRESHOLDS = [0.15, 0.2, 0.25, 0.3, 0.35, 0.4]

MANIFEST = """# The trigger detector that ships: made by models/train/trigger, on simulated frames and on MIT-licensed clips.
family = "yolox"
file = "trigger.onnx"
sha256 = "{sha256}"
licence = "Apache-2.0"
source = "models/train/trigger"

[input]
width = {width}
height = {height}
layout = "nchw"
channels = "rgb"
resize = "stretch"
pad_value = 0.0
scale = 0.003921569
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]

[head]
score_threshold = {threshold}
nms_iou = 0.45
strides = {strides}
class_count = {count}

# Road class = index of the model's class.
[classes]
{classes}
"""


def f1(row):
    p, r = row["precision"] or 0.0, row["recall"] or 0.0
    return 2 * p * r / max(p + r, 1e-9)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "validation", "test", "real", "out"):
        p.add_argument(f"--{name}", required=True)
    p.add_argument("--peer-real")
    a = p.parse_args()
    state = torch.load(os.path.join(a.run, "checkpoint.pt"), weights_only=False, map_location="cpu")
    model = Detector(**state["recipe"]["model"]).eval()
    model.load_state_dict(state["averaged"])
    model = model.to(memory_format=torch.channels_last)
    validation, held_out = Simulated(a.validation), Real(a.real, "held_out")
    score = lambda t: f1(evaluate(model, validation, 300, t)["any class"]) + f1(evaluate(model, held_out, 300, t)["any class"])
    threshold = max(THRESHOLDS, key=score)
    test = Simulated(a.test)
    figures = {
        "steps": state["step"], "seconds": round(state["seconds"]), "recipe": state["recipe"],
        "parameters": sum(q.numel() for q in model.parameters()),
        "simulated_test": evaluate(model, test, 1000, threshold),
        "simulated_test_sides_of_8_px_or_more": evaluate(model, test, 1000, threshold, side=8.0),
        "real_held_out_agreement_with_yolox_nano": evaluate(model, held_out, 1000, threshold),
    }
    if a.peer_real:
        figures["clips_never_trained_on_agreement_with_yolox_nano"] = evaluate(model, Real(a.peer_real, "held_out"), 1000, threshold)
    path = os.path.join(a.out, "trigger.onnx")
    figures["onnxruntime_differs_by"] = export(model, path)
    with open(path, "rb") as f:
        sha256 = hashlib.sha256(f.read()).hexdigest()
    figures["sha256"] = sha256
    classes = "\n".join(f"{name} = {k}" for k, name in enumerate(CLASSES))
    with open(os.path.join(a.out, "trigger.toml"), "w", encoding="utf-8") as f:
        f.write(MANIFEST.format(sha256=sha256, width=WIDTH, height=HEIGHT, threshold=threshold, strides=STRIDES,
                                count=len(CLASSES), classes=classes))
    with open(os.path.join(a.out, "trigger.metrics.json"), "w", encoding="utf-8") as f:
        json.dump(figures, f, indent=1)
        f.write("\n")
    print(json.dumps({k: v.get("any class", v) if isinstance(v, dict) else v for k, v in figures.items() if k != "recipe"}))


if __name__ == "__main__":
    main()
