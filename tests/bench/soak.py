#!/usr/bin/env python3
"""Soak of `run`: so many hours of drive time as fast as the machine allows, then so many minutes in real time; a simulated crash every
few minutes, evidence and messages to a real broker all the while. And of `replay`: one drive of so many hours, with a crash every four
minutes, in which every sample that was written must be counted.

Memory, open files and threads of the process are noted twice a second, of `replay` twenty times. What is asked: does memory grow (slope of the means of twenty
stretches after the first tenth, with its 95 % interval; flat is an interval that holds 0, or less than 1 MB a day of use), are files and
threads the same at the end, was anything lost, did every event's alert and report arrive. Prints a table; exit code 1 if something does
not hold.

usage: soak.py [--hours 24] [--minutes 60] [--replay-hours 24]
"""
import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import common
import load

RINGS = """post_roll_s = 1
sample_pre_roll_s = 20
video_pre_roll_s = 10
imu_max_hz = 100
can_max_hz = 1000
gnss_max_hz = 1
memory_cap_mb = 256"""
STRETCHES = 20
# Two-sided 95 % of Student's t with 18 degrees of freedom.
T_95 = 2.101
EVERY_S = 0.5
# Of a motion sensor at rest, m/s^2.
DRAW = random.Random(1)
NOISE = [DRAW.gauss(0, 0.1) for _ in range(1009)]


def slope(points):
    """Slope of (x, y) by least squares over the means of equal stretches, and half its 95 % interval."""
    size = max(1, len(points) // STRETCHES)
    means = [tuple(sum(p[i] for p in points[k:k + size]) / size for i in (0, 1)) for k in range(0, size * STRETCHES, size)]
    n = len(means)
    mx, my = (sum(m[i] for m in means) / n for i in (0, 1))
    sxx = sum((x - mx) ** 2 for x, _ in means)
    b = sum((x - mx) * (y - my) for x, y in means) / sxx
    rest = sum((y - my - b * (x - mx)) ** 2 for x, y in means)
    return b, T_95 * (rest / (n - 2) / sxx) ** 0.5


def look(pid):
    """Resident bytes, open files, threads."""
    _, now, _ = common.resident(pid)
    return now, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


def soak(name, realtime, done):
    """Runs until `done(seconds of the agent's clock, seconds of the wall)`; one row of the table and what is wrong."""
    with common.scratch() as folder:
        folder = Path(folder)
        broker = common.Broker(folder)
        for part, seconds, crashes in (("quiet", 60, False), ("crash", 2.5, True)):
            (folder / part).mkdir()
            load.make_drive(folder / part, seconds, False, crashes)
        (folder / "bench.dbc").write_text(load.DBC)
        drives = ", ".join(['"quiet/bench.mcap"'] * 4 + ['"crash/bench.mcap"'])
        config = load.write_config(folder, broker.url, RINGS, sources=f"realtime = {str(realtime).lower()}\n")
        text = config.read_text().replace('drives = ["bench.mcap"]', f"drives = [{drives}]")
        config.write_text(text.replace("[link]\n", "[link]\nhealth_interval_s = 5\n") + "[evidence]\nquota_mb = 400\n")
        heard = open(folder / "heard.jsonl", "w+")
        ear = subprocess.Popen([common.AGENT, "listen", "--broker", broker.url, "--json"], stdout=heard, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        errors = open(folder / "stderr.txt", "w+")
        agent = subprocess.Popen([common.AGENT, "run", "--config", config], stderr=errors, cwd=folder)
        points, events, begun, position, uptime, losses, alerts, reports = [], 0, time.monotonic(), 0, 0, {}, set(), set()
        try:
            while not done(uptime, time.monotonic() - begun):
                time.sleep(EVERY_S)
                if agent.poll() is not None:
                    raise RuntimeError((folder / "stderr.txt").read_text()[-2000:])
                points.append((uptime if not realtime else time.monotonic() - begun, *look(agent.pid)))
                with open(folder / "heard.jsonl") as lines:
                    lines.seek(position)
                    while (line := lines.readline()).endswith("\n"):
                        position = lines.tell()
                        message = json.loads(line).get("message") or {}
                        if "health" in message:
                            uptime, losses, events = (message["health"][k] for k in ("uptime_s", "losses", "events"))
                        for kind, ids in (("alert", alerts), ("report", reports)):
                            if kind in message:
                                ids.add((message[kind]["event"]["boot"], message[kind]["event"]["seq"]))
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait()
            ear.terminate()
            broker.stop()
    grows, (files, threads), wrong = grown(name, points)
    # At the quick pace an event waits for its file for minutes of its clock, and its ring tells what did not stay as long.
    if realtime and any(losses.values()):
        wrong.append(f"{name}: losses {losses}")
    missing = [len(alerts), len(reports)]
    if not events or min(missing) < events - 4:
        wrong.append(f"{name}: {events} events, {missing} alerts and reports")
    row = (name, f"{uptime / 3600:.2f}", f"{points[-1][1] / 1e6:.1f}", grows, files, threads, events,
           len(alerts), len(reports), sum(losses.values()))
    return row, wrong


def grown(name, points):
    """Slope of resident MB an hour with its interval, and what is wrong with memory, files and threads."""
    after = points[len(points) // 10:]
    grows, half = slope([(t / 3600, rss / 1e6) for t, rss, *_ in after])
    wrong = []
    if abs(grows) > half and grows * 24 > 1:
        wrong.append(f"{name}: memory grows by {grows:.3f} MB an hour (within {half:.3f})")
    for what, i in (("files", 2), ("threads", 3)):
        first, last = (common.median([p[i] for p in part]) for part in (after[:len(after) // 4], after[-len(after) // 4:]))
        if last > first:
            wrong.append(f"{name}: {what} from {first} to {last}")
    return f"{grows:+.3f} ± {half:.3f}", after[-1][2:4], wrong


def long_drive(folder, hours):
    """A drive of quiet blocks of four minutes that each end in a crash: an airbag, or 20 km/h in 0.1 s, in turns. A bus frame and a
    motion sample every 10 ms; returns how many of each, and how many crashes."""
    ticks, blocks = 24_000, int(hours * 15)
    with open(folder / "long.log", "w") as can, open(folder / "long.csv", "w") as imu:
        imu.write("t,ax,ay,az,gx,gy,gz\n")
        for block in range(blocks):
            airbag = block % 2 == 0
            for tick in range(ticks):
                t = (block * ticks + tick) / 100
                at = tick - (ticks - 1000)
                can.write(f"({t:.6f}) can0 050#{int(airbag and 0 <= at < 40):02X}00000000000000\n")
                ax = 20 / 3.6 / 0.1 * (1 - math.cos(2 * math.pi * at / 10)) if not airbag and 0 <= at < 10 else 0
                imu.write(f"{t:.4f},{ax + NOISE[tick % len(NOISE)]:.4f},{NOISE[tick * 7 % len(NOISE)]:.4f},9.8067,0,0,0\n")
    common.import_drive(folder / "long.mcap", *load.telemetry(folder / "long.log", folder / "long.csv"))
    for name in ("long.log", "long.csv"):
        (folder / name).unlink()
    return blocks * ticks, blocks


def replay(hours):
    """One row of the table and what is wrong."""
    with common.scratch() as folder:
        folder = Path(folder)
        common.say("making the drive")
        samples, crashes = long_drive(folder, hours)
        (folder / "bench.dbc").write_text(load.DBC)
        config = load.write_config(folder, "mqtt://127.0.0.1:1", RINGS)
        agent = subprocess.Popen([common.AGENT, "replay", folder / "long.mcap", "--config", config, "--out", folder / "out"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        points, begun = [], time.monotonic()
        while agent.poll() is None:
            try:
                points.append((time.monotonic() - begun, *look(agent.pid)))
            except (OSError, KeyError):
                break
            time.sleep(0.05)
        code, took = agent.wait(), time.monotonic() - begun
        # Time of the drive, as it goes by evenly.
        points = [(t / took * hours * 3600, *rest) for t, *rest in points]
        summary = json.loads((folder / "out" / "summary.json").read_text())["drives"][0]
        messages = [json.loads(line)["message"] for line in open(folder / "out" / "messages.jsonl")]
    alerts, reports = ({(m[k]["event"]["boot"], m[k]["event"]["seq"]) for m in messages if k in m} for k in ("alert", "report"))
    name = "replay"
    grows, (files, threads), wrong = grown(name, points)
    counted = [summary[k] for k in ("can_frames", "imu_samples", "events")]
    if code != 0 or counted != [samples, samples, crashes] or any(summary["losses"].values()):
        wrong.append(f"{name}: ended with {code}; of {samples} samples and {crashes} crashes {counted}; losses {summary['losses']}")
    if min(len(alerts), len(reports)) < crashes:
        wrong.append(f"{name}: {len(alerts)} alerts, {len(reports)} reports")
    common.say(f"{hours} hours in {took:.0f} s, {hours * 3600 / took:.0f} times real time")
    return (name, f"{hours:.2f}", f"{points[-1][1] / 1e6:.1f}", grows, files, threads, crashes, len(alerts), len(reports), 0), wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--replay-hours", type=float, default=24)
    args = parser.parse_args()
    common.need("mosquitto")
    print("### Soak\n")
    print(common.machine() + "\n", flush=True)
    rows, wrong = [], []
    for name, realtime, done in (("as fast as it goes", False, lambda agent_s, _: agent_s >= args.hours * 3600),
                                 ("real time", True, lambda _, wall_s: wall_s >= args.minutes * 60)):
        if (args.hours if not realtime else args.minutes) > 0:
            row, faults = soak(name, realtime, done)
            rows.append(row)
            wrong += faults
            common.say(f"{name}: {row}")
    if args.replay_hours > 0:
        row, faults = replay(args.replay_hours)
        rows.append(row)
        wrong += faults
    common.table(["pace", "hours of the agent's clock", "resident MB", "MB an hour", "files", "threads", "events", "alerts", "reports", "lost"], rows)
    print("\n".join(wrong) or "nothing grew, nothing was lost")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
