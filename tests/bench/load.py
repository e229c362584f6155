"""The load of the `run` benchmarks: a made-up bus and IMU with crashes in them, end to end, and its configuration.

Synthetic, and the drives say so: 1,000 CAN frames a second (ten messages at 100 Hz, one carries the airbag bit),
IMU at 100 Hz with gravity, noise and haversine pulses of 20 km/h over 100 ms. Crashes by airbag and by delta-V take
turns, one every 1.25 s: post-roll is set to 1 s, the shortest, so that each is an event of its own.
"""
import math
import random

import common

EVERY_S = 1.25
DBC = """VERSION "bench"

NS_ :

BS_:

BU_: ACU UNIT

BO_ 80 AIRBAG_STATUS: 8 ACU
 SG_ AIRBAG_DEPLOYED : 0|1@1+ (1,0) [0|1] "" UNIT

BO_ 256 VEHICLE_SPEED: 8 ACU
 SG_ SPEED : 0|16@1+ (0.01,0) [0|655.35] "km/h" UNIT
"""


def crashes(seconds):
    """(time, by airbag) of each crash; the last one's post-roll ends within the drive."""
    count = int(seconds / EVERY_S)
    return [((i + 0.2) * EVERY_S, i % 2 == 0) for i in range(count)]


def write_candump(path, seconds, events):
    on = [(t, t + 0.4) for t, airbag in events if airbag]
    with open(path, "w") as f:
        for tick in range(int(seconds * 100)):
            for slot in range(10):
                t = tick / 100 + slot / 1000
                if slot == 0:
                    set_ = any(a <= t < b for a, b in on)
                    ident, data = 0x50, bytes([int(set_)] + [0] * 7)
                elif slot == 1:
                    ident, data = 0x100, (5400).to_bytes(2, "little") + bytes(6)
                else:
                    ident, data = 0x200 + slot, (tick % 65536).to_bytes(2, "little") + bytes(6)
                f.write(f"({t:.6f}) can0 {ident:03X}#{data.hex().upper()}\n")


def write_imu(path, seconds, events):
    noise = random.Random(1)
    width, dv = 0.100, 20 / 3.6
    pulses = [(t, -1 if i % 4 == 1 else 1) for i, (t, airbag) in enumerate(events) if not airbag]
    with open(path, "w") as f:
        f.write("t,ax,ay,az,gx,gy,gz\n")
        for tick in range(int(seconds * 100)):
            t = tick / 100
            ax = sum(sign * dv / width * (1 - math.cos(2 * math.pi * (t - t0) / width))
                     for t0, sign in pulses if t0 <= t < t0 + width)
            row = [ax, 0, 9.80665, 0, 0, 0]
            spread = [0.1] * 3 + [0.005] * 3
            cells = (f"{v + noise.gauss(0, s):.5f}" for v, s in zip(row, spread))
            f.write(f"{t:.4f}," + ",".join(cells) + "\n")


def telemetry(log, table):
    """What an import must be told of a bus and a motion sensor that were made up here."""
    return ["--simulated", "--candump", log, "--imu-csv", table, "--imu-columns", "t=t,x=ax,y=ay,z=az,gx=gx,gy=gy,gz=gz"]


def make_drive(folder, seconds, video, with_crashes=True):
    """Writes bench.mcap, with 720p video if wanted; returns its path and the number of crashes in it."""
    events = crashes(seconds) if with_crashes else []
    write_candump(folder / "bench.log", seconds, events)
    write_imu(folder / "bench.csv", seconds, events)
    (folder / "bench.dbc").write_text(DBC)
    args = telemetry(folder / "bench.log", folder / "bench.csv")
    if video:
        common.repeated_clip(folder / "bench.mp4", seconds)
        args += ["--video", folder / "bench.mp4"]
    drive = folder / "bench.mcap"
    common.import_drive(drive, *args)
    return drive, len(events)


def make_clip_drive(folder, clip):
    """Writes bench.mcap from a clip alone."""
    (folder / "bench.dbc").write_text(DBC)
    drive = folder / "bench.mcap"
    common.import_drive(drive, "--video", clip)
    return drive


def write_config(folder, url, rings, model=None, extra="", vision="", sources=""):
    """A configuration for `run` on that drive, again and again, with more keys of `sources` and more sections; returns its path."""
    vision = f'[trigger.vision]\nmodel = "{model or "none"}"\n{vision}\n'
    text = f"""inherits = "base"
[unit]
name = "bench"
fleet = "bench"
[rings]
{rings}
[can]
dbc = "bench.dbc"
[can.signals]
speed = {{ signal = "VEHICLE_SPEED.SPEED", scale = 0.2777778 }}
airbag_deployed = "AIRBAG_STATUS.AIRBAG_DEPLOYED"
[fusion]
cool_down_s = 0.0
join_window_s = 0.0
[link]
broker = "{url}"
[sources]
drives = ["bench.mcap"]
loop = true
{sources}{vision}{extra}"""
    path = folder / "bench.toml"
    path.write_text(text)
    return path
