#!/usr/bin/env python3
"""Time from the sample that crosses the threshold to the alert at the broker, wall clock, in `run`, real time.

Three clocks on one machine: the record handed to the core, the alert handed to the outbox (both by the agent's
hidden --latency-log), and the arrival at a subscriber of a real Mosquitto (mosquitto_sub's own time stamp). So the
last figure holds the durable write to disk, both hops through the broker and the subscriber's wake-up.

Three loads: telemetry alone; the same with 720p video and FastestDet on every frame; and a clip whose looming vehicles
make alerts by vision alone, over and over (an eighth of the events): there the time begins when the encoded frame is
handed over and holds the waiting, the decoding and the detector; its threshold is lowered to 0.02, which measures time and
judges nothing.

usage: latency.py [EVENTS]        (default 200; 1.25 s each)
"""
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import common
import load

DRIVE_S = 25
RINGS = """post_roll_s = 1
sample_pre_roll_s = 5
video_pre_roll_s = 3
memory_cap_mb = 256"""


def varint(data, at):
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def read_alert(payload):
    """Event id and revision of an alert (the first fields of its payload, postcard)."""
    data = bytes.fromhex(payload)
    assert data[:2] == b"FA", data[:2]
    length, at = varint(data, 6)
    unit = data[at:at + length].decode()
    boot, at = varint(data, at + length)
    seq, at = varint(data, at)
    return f"{unit}_{boot:08}_{seq:06}", data[at]


def subscribe(broker, on_alert):
    """Calls `on_alert(event, revision, Unix ns of its arrival)` for each alert at the broker; returns the process to end."""
    subscriber = subprocess.Popen(
        ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", "fleet/+/+/alert", "-q", "1", "-F", "%U %x"],
        stdout=subprocess.PIPE, text=True)

    def listen():
        for line in subscriber.stdout:
            stamp, payload = line.split()
            seconds, _, fraction = stamp.partition(".")
            on_alert(*read_alert(payload), int(seconds) * 10**9 + int(fraction.ljust(9, "0")))

    threading.Thread(target=listen, daemon=True).start()
    return subscriber


def read_log(path):
    """When the record of each event was handed over, and its alert given to the outbox: Unix ns."""
    rows = (line.split(",") for line in path.read_text().splitlines())
    return {event: (int(born), int(out)) for event, born, out in rows}


def check_drive(folder, drive, count, config):
    """Every crash of the drive is an event of its own, by airbag and by delta-V in turns: so may the sequence say."""
    out = folder / "check"
    common.agent("replay", drive, "--config", config, "--out", out, "--no-evidence", codes=(0, 5))
    alerts = [json.loads(line)["message"] for line in open(out / "messages.jsonl")]
    alerts = [a["alert"] for a in alerts if "alert" in a and a["alert"]["revision"] == 0]
    assert len(alerts) == count and count % 2 == 0, f"{len(alerts)} events of {count} crashes"
    for nth, alert in enumerate(alerts):
        sources = {e["source"] for e in alert["evidence"]}
        assert ("airbag" in sources) == (nth % 2 == 0) and ("delta_v" in sources) == (nth % 2 == 1), (nth, sources)


def prepare(folder, url, load_name):
    """Makes the drive and the configuration of one of the loads; returns the configuration's path."""
    if load_name == "vision":
        load.make_clip_drive(folder, common.DATA / "clips" / "dad_000487.mp4")
    else:
        drive, count = load.make_drive(folder, DRIVE_S, load_name == "video")
        check_drive(folder, drive, count, load.write_config(folder, url, RINGS))
    model = None if load_name == "telemetry" else common.install_model(folder, *common.DETECTORS[0][1:]).name
    return load.write_config(folder, url, RINGS, model, vision="ahead_on = 0.02" if load_name == "vision" else "")


def run_once(folder, wanted, load_name, timeout_s):
    """Runs the agent until `wanted` first alerts have arrived; returns handed over, given to outbox, arrived."""
    broker = common.Broker(folder)
    arrived, raises = {}, 0

    def on_alert(event, revision, at):
        nonlocal raises
        if revision > 0:
            raises += 1
        else:
            arrived.setdefault(event, at)

    subscriber = subscribe(broker, on_alert)
    time.sleep(0.5)
    config = prepare(folder, broker.url, load_name)
    log, errors = folder / "latency.csv", open(folder / "stderr.txt", "w")
    agent = subprocess.Popen([common.AGENT, "run", "--config", config, "--latency-log", log], stderr=errors)
    begun = time.monotonic()
    try:
        while len(arrived) < wanted and time.monotonic() - begun < timeout_s and agent.poll() is None:
            time.sleep(0.2)
        ticks = sum(map(int, Path(f"/proc/{agent.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
        cpu = ticks / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begun)
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait()
        time.sleep(0.5)
        subscriber.terminate()
        subscriber.wait()
        broker.stop()
    handed = read_log(log)
    lines = (folder / "stderr.txt").read_text().splitlines()
    common.say("\n".join(lines[:12]))
    behind = any("model is behind" in line for line in lines)
    rows = [(event, *handed[event], arrived[event]) for event in handed if event in arrived][:wanted]
    missing = len(set(handed) - set(arrived))
    return rows, f"{missing} alerts not seen at the broker; {raises} raises; {cpu:.2f} cores busy; " \
        f"the model was {'behind at times' if behind else 'never behind'}"


def disk_sync_ms():
    """Part of every alert: what one small durable write costs here, apart from others as alerts are."""
    with common.scratch() as folder:
        file = os.open(Path(folder) / "sync", os.O_WRONLY | os.O_CREAT)
        times = []
        for _ in range(50):
            time.sleep(0.1)
            begun = time.perf_counter()
            os.write(file, bytes(4096))
            os.fdatasync(file)
            times.append((time.perf_counter() - begun) * 1e3)
        os.close(file)
    return common.median(times)


def main():
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    common.need("mosquitto", "mosquitto_sub")
    print("### Latency of alerts in `run`\n")
    print(common.machine() + "\n")
    variants = [("telemetry: CAN 1,000 frames/s, IMU 100 Hz", "telemetry", wanted)]
    if common.DATA.is_dir():
        common.need("ffmpeg")
        variants.append(("the same, 720p video and FastestDet on every frame", "video", wanted))
        variants.append(("vision alone: a 720p crash clip and FastestDet", "vision", max(1, wanted // 8)))
    else:
        print("no data folder: without the loads with video\n")
    rows, notes, failed = [], [], []
    for name, load_name, count in variants:
        with common.scratch() as folder:
            measured, note = run_once(Path(folder), count, load_name, wanted * load.EVERY_S * 1.5 + 60)
        groups = [("all", measured)]
        if len(measured) < count:
            failed.append(name)
        for odd, label in ((1, "airbag bit"), (0, "delta-V of the IMU")) if load_name != "vision" else ():
            groups.append((label, [r for r in measured if int(r[0].rsplit("_", 1)[1]) % 2 == odd]))
        for label, part in groups:
            if not part:
                rows.append((name, label, 0, "-", "-", "-", "-", "-", "-"))
                continue
            core = [(out - born) / 1e6 for _, born, out, _ in part]
            whole = [(at - born) / 1e6 for _, born, _, at in part]
            cells = [f"{common.percentile(v, p):.2f}" for v in (core, whole) for p in (50, 99, 100)]
            rows.append((name, label, len(part), *cells))
        notes.append(f"{name}: {note}.\n")
    table_head = ["load", "events", "n", "to the outbox: p50 ms", "p99 ms", "max ms", "to the subscriber: p50 ms", "p99 ms", "max ms"]
    common.table(table_head, rows)
    print("\n".join(notes) + "\n")
    print(f"This disk: {disk_sync_ms():.2f} ms for a write of 4 KiB with fdatasync (median of 50, 0.1 s apart).\n")
    if failed:
        sys.exit("too few events: " + "; ".join(failed))


if __name__ == "__main__":
    main()
