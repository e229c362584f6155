"""Writes what stands beside the shipped student: its manifest (TOML, as `models pull` reads it, without a place to fetch it
from) and its figures (JSON). usage: manifest.py WORK TRAINING.json OUT, from ship.sh."""

import hashlib
import json
import os
import sys


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
        "validation": load(os.path.join(work, "validation.json")), "test": load(os.path.join(work, "test.json")),
        "training_log": load(training)["log"],
    }
    with open(os.path.join(out, "student.metrics.json"), "w") as f:
        json.dump(figures, f, indent=1)
        f.write("\n")
    with open(os.path.join(out, "student.toml"), "w") as f:
        f.write("# Manifest of the small student. It knows simulated roads only.\n")
        f.write(f'file = "student.gguf"\nsize = {len(data)}\nsha256 = "{figures["sha256"]}"\n')
        f.write(f'weights_sha256 = "{figures["verify"]["weights_sha256"]}"\ntrained_on = "simulated"\n')
        f.write('\n[licence]\nname = "Apache-2.0"\nurl = "https://www.apache.org/licenses/LICENSE-2.0"\n')


if __name__ == "__main__":
    main()
