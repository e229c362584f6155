#!/usr/bin/env python3
"""Resident memory of `run` in real time, less the declared rings, against the goal of 50 MB.

Rings of the default configuration are sized for a full bus, and memory that was never written is not resident: to take
their declared size off would flatter. So the rings are declared here for the rates that the drive has, and the drive
runs until they are full. A crash by airbag or delta-V every 1.25 s makes the agent write evidence all the while.

usage: memory.py [SECONDS]        (default 45 each)
"""
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import common
import load

GOAL_MB = 50
RINGS = """post_roll_s = 1
sample_pre_roll_s = 20
video_pre_roll_s = 10
imu_max_hz = 100
can_max_hz = 1000
gnss_max_hz = 1
video_max_mbit_s = {mbit:.1f}
memory_cap_mb = 256"""


def run_once(seconds, video, detector, with_crashes):
    with common.scratch() as folder:
        folder = Path(folder)
        broker = common.Broker(folder)
        load.make_drive(folder, 25, video, with_crashes)
        mbit = 1.0
        if video:
            mbit = (folder / "bench.mp4").stat().st_size * 8 / 25 / 1e6
        model = detector if detector in (None, "builtin") else common.install_model(folder, *detector[1:]).name
        config = load.write_config(folder, broker.url, RINGS.format(mbit=mbit), model)
        errors = folder / "stderr.txt"
        agent = subprocess.Popen([common.AGENT, "run", "--config", config], stderr=open(errors, "w"))
        try:
            time.sleep(seconds)
            if agent.poll() is not None:
                raise RuntimeError(errors.read_text())
            peak, now, program = common.resident(agent.pid)
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait()
            broker.stop()
        rings = float(re.search(r"rings take ([\d.]+) MB", errors.read_text()).group(1)) * 1e6
        return peak, now, program, rings


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 45
    common.need("mosquitto")
    print("### Resident memory of `run`\n")
    print(common.machine() + "\n")
    variants = [("telemetry, quiet", False, None, False), ("telemetry, a crash every 1.25 s", False, None, True)]
    if common.DATA.is_dir():
        common.need("ffmpeg")
        variants.append(("the same, FastestDet loaded, no video", False, common.DETECTORS[0], True))
        variants.append(("the same and 720p video, no detector", True, None, True))
        variants.append(("the same and 720p video, the detector that ships", True, "builtin", True))
        variants += [(f"the same and 720p video, {d[0]}", True, d, True) for d in common.DETECTORS]
    rows = []
    for name, *how in variants:
        peak, now, program, rings = run_once(seconds, *how)
        rest = (peak - rings) / 1e6
        verdict = "yes" if rest <= GOAL_MB else "no"
        rows.append((name, *(f"{v / 1e6:.1f}" for v in (peak, now, program, rings)), f"{rest:.1f}", verdict))
        common.say(f"{name}: {peak / 1e6:.1f} MB")
    common.table(["load", "VmHWM MB", "VmRSS at the end MB", "of it program files MB", "rings declared MB", "VmHWM less rings MB", f"at most {GOAL_MB}"], rows)


if __name__ == "__main__":
    main()
