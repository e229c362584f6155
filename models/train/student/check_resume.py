"""Checks that an interrupted training and a whole one are the same, byte for byte: a student much smaller than `recipes/tiny.json`
is trained for six steps, and again for three, killed while it goes on, and resumed. On a processor, in less than a minute.

Needs what `train.py` needs.

usage: check_resume.py PROGRAM       (the firmware-agent program that makes the clips)
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS, FIRST = 6, 3


def recipe(steps):
    with open(os.path.join(HERE, "recipes/tiny.json")) as f:
        made = json.load(f)
    made["shape"] |= {"vision_layers": 1, "layers": 1}
    # The rate of the warm-up does not depend on the number of steps.
    return made | {"round": 24, "held_out_round": 160, "batch": 4, "steps": steps, "pool": [[0, 1], [4, 2]]}


def start(simulator, work, name, steps):
    path = os.path.join(work, f"{name}-{steps}.json")
    with open(path, "w") as f:
        json.dump(recipe(steps), f)
    command = [sys.executable, os.path.join(HERE, "train.py"), "--recipe", path, "--simulator", simulator, "--tokenizer",
               os.path.join(work, "tokenizer.json"), "--store", os.path.join(work, "clips"), "--out", os.path.join(work, name),
               "--threads", "1", "--workers", "0", "--validate", "4", "--eager", "--keep", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(*arguments):
    running = start(*arguments)
    said = running.communicate()[0]
    assert running.returncode == 0, said
    return said


def state(work, name):
    return torch.load(os.path.join(work, name, "checkpoint.pt"), weights_only=True)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b


def main():
    simulator = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as work:
        subprocess.run([sys.executable, os.path.join(HERE, "tokenizer.py"), os.path.join(HERE, "../../.."),
                        os.path.join(work, "tokenizer.json"), str(recipe(STEPS)["shape"]["vocab"])], check=True)
        finish(simulator, work, "whole", STEPS)
        finish(simulator, work, "parts", FIRST)
        # Goes on, and is killed as soon as it has kept one more step.
        at = lambda: os.stat(os.path.join(work, "parts/checkpoint.pt")).st_mtime_ns
        before, running = at(), start(simulator, work, "parts", STEPS)
        while at() == before and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        killed_at = state(work, "parts")["step"]
        said = finish(simulator, work, "parts", STEPS)
        assert f"going on at step {killed_at}" in said, said
        whole, parts = state(work, "whole"), state(work, "parts")
        assert whole["step"] == parts["step"] == STEPS
        for key in ("student", "hints", "optim"):
            assert same(whole[key], parts[key]), f"{key} differs"
    print(f"{STEPS} steps at once, and {FIRST} with a kill at {killed_at} and a resumption: the same student, hints and optimiser")


if __name__ == "__main__":
    main()
