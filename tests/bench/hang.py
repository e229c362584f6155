#!/usr/bin/env python3
"""Starts the real agent with its outbox and evidence on a disk of its own (ext4 on a loop device, so as root), plays a simulated crash
every 1.25 s in real time against a real Mosquitto, and freezes that file system for a while: every write and sync then hangs in the
kernel, as on a card that does not answer, and a process that waits there cannot be killed.

It must hold that every crash's alert arrives, also while the disk hangs, none of them later than the time that the link waits for the disk
and a half; that no sample is lost; that the agent goes on by itself when the disk answers, writes evidence again and ends when it is told
to; and that whatever a report says of its evidence file is so. Prints a table; exit code 1 if something does not hold, 2 if it may not mount.

usage: hang.py [SECONDS]      how long it hangs (default 30)
"""
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import common
import latency
import load

# agent_link::limits::COMMIT_WITHIN, and what a busy machine may add.
WITHIN_MS = 450
BEFORE_S = 15
AFTER_S = 25


def mounted(folder):
    """Makes and mounts the disk; returns where, or None."""
    image, disk = folder / "disk.img", folder / "disk"
    disk.mkdir()
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    done = subprocess.run(["mkfs.ext4", "-q", "-F", image], stderr=subprocess.DEVNULL).returncode == 0 and \
        subprocess.run(["mount", "-o", "loop", image, disk], stderr=subprocess.DEVNULL).returncode == 0
    return disk if done else None


def freeze(disk, on):
    subprocess.run(["fsfreeze", "--freeze" if on else "--unfreeze", disk], check=True)


def run(folder, disk, seconds):
    broker = common.Broker(folder)
    load.make_drive(folder, latency.DRIVE_S, False)
    extra = f'[student]\ndeadline_s = 5\n[evidence]\ndir = "{disk}/evidence"\npersist = "always"\n'
    config = load.write_config(folder, broker.url, latency.RINGS, extra=extra, sources="realtime = true\n")
    text = config.read_text().replace("[link]\n", f'[link]\nhealth_interval_s = 5\noutbox.store = "{disk}/outbox.redb"\n')
    config.write_text(text)
    heard, arrived = open(folder / "heard.jsonl", "w"), {}
    ear = subprocess.Popen([common.AGENT, "listen", "--broker", broker.url, "--json"], stdout=heard, stderr=subprocess.DEVNULL)
    subscriber = latency.subscribe(broker, lambda event, revision, at: revision > 0 or arrived.setdefault(event, at))
    time.sleep(0.5)
    log = folder / "latency.csv"
    agent = subprocess.Popen([common.AGENT, "run", "--config", config, "--latency-log", log], stderr=open(folder / "stderr.txt", "w"))
    frozen = False
    try:
        time.sleep(BEFORE_S)
        if agent.poll() is not None:
            raise RuntimeError((folder / "stderr.txt").read_text()[-2000:])
        freeze(disk, True)
        frozen, begun = True, time.time_ns()
        time.sleep(seconds)
        waits = [Path(f"/proc/{agent.pid}/task/{t}/comm").read_text().strip() for t in os.listdir(f"/proc/{agent.pid}/task")
                 if Path(f"/proc/{agent.pid}/task/{t}/stat").read_text().rsplit(")", 1)[1].split()[0] == "D"]
        freeze(disk, False)
        frozen, ended = False, time.time_ns()
        time.sleep(AFTER_S)
    finally:
        if frozen:
            freeze(disk, False)
        asked = time.monotonic()
        if agent.poll() is None:
            agent.send_signal(signal.SIGTERM)
        code = agent.wait()
        took = time.monotonic() - asked
        time.sleep(0.5)
        subscriber.terminate()
        ear.terminate()
        broker.stop()
    heard.close()
    handed = {event: born for event, (born, _) in latency.read_log(log).items()}
    return judge(folder, disk, (begun, ended), handed, arrived, waits, (code, took))


def judge(folder, disk, hung, handed, arrived, waits, end):
    wrong, rows, files = [], [], {"before": [0, 0], "while": [0, 0], "after": [0, 0]}

    def phase(t):
        return "before" if t < hung[0] else "while" if t < hung[1] else "after"

    missing = sorted(set(handed) - set(arrived))
    if missing:
        wrong.append(f"{len(missing)} alerts did not arrive: {missing[:3]}")
    lines = [json.loads(line) for line in open(folder / "heard.jsonl")]
    messages = [line["message"] for line in lines if line.get("message") and not line["duplicate"]]
    for report in (m["report"] for m in messages if "report" in m):
        event = f"{report['event']['unit']}_{report['event']['boot']:08}_{report['event']['seq']:06}"
        count = files[phase(handed.get(event, 0))]
        count[0] += 1
        if file := report.get("evidence_file"):
            count[1] += 1
            path = next(iter(disk.glob(f"evidence/**/{file['name']}")), None)
            if path is None or hashlib.sha256(path.read_bytes()).hexdigest()[:16] != file["sha256_8"]:
                wrong.append(f"{file['name']} is not what its report says")
    for name in ("before", "while", "after"):
        times = [(arrived[e] - born) / 1e6 for e, born in handed.items() if e in arrived and phase(born) == name]
        reports, with_file = files[name]
        rows.append((name, len(times), f"{common.percentile(times, 50):.1f}", f"{max(times):.1f}", reports, with_file))
        if name == "while" and max(times) > WITHIN_MS:
            wrong.append(f"an alert took {max(times):.0f} ms while the disk hung")
    if files["after"][1] == 0:
        wrong.append("no evidence was written after it")
    healths = [m["health"] for m in messages if "health" in m]
    if not healths or any(healths[-1]["losses"].values()):
        wrong.append(f"losses: {healths[-1]['losses'] if healths else 'no health'}")
    if not any(h["storage"]["outbox_failing"] for h in healths):
        wrong.append("no health message said that the disk fails")
    if end[0] != 0:
        wrong.append(f"ended with {end[0]}: {(folder / 'stderr.txt').read_text()[-1500:]}")
    said = [line for line in (folder / "stderr.txt").read_text().splitlines() if "disk" in line]
    common.table(["crash", "alerts", "ms to the broker, median", "longest", "reports", "with evidence"], rows)
    print(f"threads that waited for the disk: {', '.join(sorted(waits)) or 'none'}; ended {end[1]:.1f} s after it was told to")
    print("\n".join(said[:8]))
    return wrong


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30
    common.need("mosquitto", "mosquitto_sub", "mkfs.ext4", "fsfreeze")
    print("### A disk that hangs\n")
    print(common.machine() + "\n", flush=True)
    with common.scratch() as name:
        folder = Path(name)
        disk = mounted(folder)
        if disk is None:
            print("hang.py: may not mount a loop device", file=sys.stderr)
            sys.exit(2)
        try:
            wrong = run(folder, disk, seconds)
        finally:
            subprocess.run(["umount", "-l", disk], check=False)
    print("\n".join(wrong) or "it held")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
