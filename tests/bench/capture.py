#!/usr/bin/env python3
"""Sustained capture: frames a second, frames lost, jitter, delay and rate of what is kept, by `doctor`.

Without --config it draws a test picture by GStreamer (1280x720 at 30 a second, encoded by x264): a build with the feature
gstreamer. In the bench's virtual machine give --config with the vivid camera (kind = "v4l2").

usage: capture.py [--seconds S] [--times N] [--config FILE] [--bin FIRMWARE_AGENT]
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

DRAWN = """[sources]
kind = "device"
[sources.camera]
kind = "test"
encoder = "x264enc"
"""


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--times", type=int, default=1)
    options.add_argument("--config", type=Path)
    root = Path(__file__).resolve().parents[2]
    options.add_argument("--bin", type=Path, default=root / "target/release/firmware-agent")
    options = options.parse_args()
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        config = options.config
        if config is None:
            config = Path(folder) / "unit.toml"
            config.write_text(DRAWN)
        print("run  camera                          codec      frames     s   fps  lost  unseen  jitter ms  longest ms"
              "  delay ms (median, longest)  first ms  Mbit/s")
        for i in range(options.times):
            call = [options.bin, "doctor", "--config", config, "--seconds", str(options.seconds)]
            ended = subprocess.run(call, capture_output=True, text=True, check=False)
            try:
                line = next(line for line in map(json.loads, ended.stdout.splitlines()) if line["check"] == "camera")
            except (StopIteration, ValueError):
                sys.exit(f"doctor ended with {ended.returncode}: {ended.stderr.strip()}")
            if not line["works"]:
                sys.exit(f"the camera does not work: {line['why']}")
            s = line["seen"]
            worst = max(worst, s["lost"])
            print(f"{i + 1:3}  {s['camera'][:30]:30}  {s['codec']:5} {s['frames']:10} {s['seconds']:5.0f} {s['fps']:5.2f}"
                  f" {s['lost']:5} {s['unseen']:7} {s['jitter_ms']:10.2f} {s['longest_ms']:11.1f}"
                  f" {s['delay_ms'][0]:16.1f} {s['delay_ms'][1]:10.1f} {s['first_ms']:9.0f} {s['mbit_s']:7.2f}")
            for advice in line["advice"]:
                print(f"     {advice}")
    print(f"goal: no frame lost: {'met' if worst == 0 else f'not met, {worst} at worst'}")
    return 0 if worst == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
