#!/usr/bin/env python3
"""Replay speed of a 720p drive with real telemetry, without a detector and with each, and memory.

The drive is a composite: the 720p clip end to end, with the CAN, IMU and GNSS of the comma2k19 segment (60 s). Replay
runs the detector in the same thread as all else, so its speed is that of one core.

usage: replay_speed.py [ROUNDS] [SECONDS]        (default 3 rounds, median shown; 60 s)
"""
import json
import sys
from pathlib import Path

import common


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    common.need_data()
    common.need("ffmpeg", "ffprobe")
    print("### Replay speed, 720p composite drive\n")
    print(common.machine() + "\n")
    rows = []
    with common.scratch() as folder:
        folder = Path(folder)
        common.repeated_clip(folder / "clip.mp4", seconds)
        drive = folder / "drive.mcap"
        dbc = common.DATA / "dbc" / "toyota_new_mc_pt_generated.dbc"
        made = common.import_drive(drive, "--video", folder / "clip.mp4", "--comma2k19", common.DATA / "comma2k19", "--dbc", dbc)
        signal = ["--dbc", dbc, "--signal", "speed=SPEED.SPEED*0.27778"]
        detectors = [("none", None)]
        detectors += [(name, common.install_model(folder, manifest, onnx)) for name, manifest, onnx in common.DETECTORS]
        for name, manifest in detectors:
            times = []
            for nth in range(rounds):
                out = folder / f"out-{name}-{nth}"
                trigger = ["--trigger", manifest] if manifest else []
                common.agent("replay", drive, "--out", out, *signal, *trigger, codes=(0, 5))
                times.append(json.loads((out / "timings.json").read_text())["drives"][0])
                summary = json.loads((out / "summary.json").read_text())["drives"][0]
                common.say(f"{name}: {times[-1]['times_real_time']:.1f} times real time")
            one = sorted(times, key=lambda t: t["wall_s"])[len(times) // 2]
            wall, frames = one["wall_s"], summary["frames_scored"]
            part = lambda key: f"{100 * one[key] / wall:.0f} %" + (f" ({1000 * one[key] / frames:.1f} ms/frame)" if frames else "")
            rows.append((name, f"{one['times_real_time']:.1f}", f"{wall:.2f}", part("decode_s"), part("detect_s"), frames,
                         summary["events"], f"{one['peak_resident_bytes'] / 1e6:.1f}", f"{one['ring_bytes'] / 1e6:.1f}"))
    print(f"{summary['duration_s']:.1f} s, {made['frames']} frames 1280x720 H.264, {made['can_frames']} CAN frames, "
          f"{made['imu_samples']} IMU samples, {made['gnss_fixes']} fixes; "
          f"{'encoded anew by the importer (B-frames)' if made['transcoded'] else 'video as in the clip'}; median of {rounds} rounds.\n")
    common.table(["detector", "times real time", "wall s", "decoding", "detector", "frames scored", "events",
                  "peak resident MB", "rings declared MB"], rows)


if __name__ == "__main__":
    main()
