#!/usr/bin/env python3
"""Runs our detector and onnxruntime by turns on the same inputs, one thread each, and prints one line per model:
median milliseconds of both, their ratio, and the largest difference of the raw outputs.

usage: onnxruntime_peer.py BINARY MANIFEST ONNX WORK_DIR RGB_FILE WIDTH HEIGHT [ROUNDS] [--peer=ONNX] [--tract]

--peer: also times another model under onnxruntime in the same turns, on noise, and prints ours against it.
"""
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort


def main() -> None:
    tract = ["--tract"] if "--tract" in sys.argv else []
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    binary, manifest, onnx, work, rgb, width, height = args[:7]
    rounds = int(args[7]) if len(args) > 7 else 200
    inputs, outputs = Path(work) / "inputs.f32", Path(work) / "outputs.f32"
    subprocess.run([binary, manifest, onnx, rgb, str(inputs), "--rgb", width, height], check=True,
                   stdout=subprocess.DEVNULL)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    spec = session.get_inputs()[0]
    peer = next((a.split("=", 1)[1] for a in sys.argv[1:] if a.startswith("--peer=")), None)
    other = ort.InferenceSession(peer, options, providers=["CPUExecutionProvider"]) if peer else None
    noise = {i.name: np.random.default_rng(1).random(i.shape, np.float32) for i in other.get_inputs()} if other else {}
    images = np.fromfile(inputs, np.float32).reshape(-1, *spec.shape[1:])
    ours = subprocess.Popen([binary, manifest, onnx, str(inputs), str(outputs), *tract],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(ours.stdout.readline().strip())
    assert ours.stdout.readline().strip() == "ready"
    times = {"ours": [], "onnxruntime": [], "peer": []}
    for i in range(rounds + 10):
        ours.stdin.write("\n")
        ours.stdin.flush()
        t_ours = float(ours.stdout.readline())
        begin = time.perf_counter()
        session.run(None, {spec.name: images[i % len(images)][None]})
        t_ort = (time.perf_counter() - begin) * 1e3
        if other:
            begin = time.perf_counter()
            other.run(None, noise)
            t_peer = (time.perf_counter() - begin) * 1e3
            times["peer"] += [t_peer] if i >= 10 else []
        if i >= 10:
            times["ours"].append(t_ours)
            times["onnxruntime"].append(t_ort)
    ours.stdin.close()
    ours.wait()
    expected = np.concatenate([session.run(None, {spec.name: image[None]})[0].ravel() for image in images])
    got = np.fromfile(outputs, np.float32)
    a, b = (statistics.median(times[k]) for k in ("ours", "onnxruntime"))
    fa, fb = (min(times[k]) for k in ("ours", "onnxruntime"))
    print(f"ours {a:.2f} ms (least {fa:.2f}), onnxruntime {ort.__version__} {b:.2f} ms (least {fb:.2f}), "
          f"ratio of medians {a / b:.2f} (of least {fa / fb:.2f}), {len(images)} frames, {rounds} rounds, "
          f"largest difference {np.abs(got - expected).max():.2e}")
    if other:
        c, fc = statistics.median(times["peer"]), min(times["peer"])
        print(f"ours {a:.2f} ms against {Path(peer).name} under onnxruntime {c:.2f} ms: ratio of medians {a / c:.2f} "
              f"(of least {fa / fc:.2f})")


main()
