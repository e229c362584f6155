#!/usr/bin/env python3
"""Starts the real agent on a small disk of its own (tmpfs, so as root) that is sound, full, read-only, and sound again, plays a
simulated crash each time against a real Mosquitto, and looks at what the fleet's side heard and what is left on the disk.

    tests/bench/disks.py [--agent target/release/firmware-agent] [--mb 24]

It must hold that every start comes up and ends well, that each sends its alert and report under an id of its own, that the report names
its evidence file exactly where the file is there and whole, and that the files from before a fault are still there after it. Prints a
JSON object; exit code 1 if something does not hold, 2 if it may not mount.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from kills import CONFIG, ROOT, free_port

STATE = """
[link.outbox]
store = "disk/outbox.redb"

[evidence]
dir = "disk/evidence"
quota_mb = 4000
"""


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--agent", default=str(ROOT / "target/release/firmware-agent"))
    parser.add_argument("--mb", type=int, default=24)
    args = parser.parse_args()
    agent = str(pathlib.Path(args.agent).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        disk = folder / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={args.mb}m", "none", str(disk)]
        if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode != 0:
            print("disks.py: may not mount a tmpfs", file=sys.stderr)
            sys.exit(2)
        try:
            ended = run(args, agent, folder, disk)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)
    sys.exit(ended)


def run(args, agent, folder, disk):
    port = free_port()
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    (folder / "unit.toml").write_text(CONFIG.format(port=port) + STATE)
    (folder / "demo.dbc").write_bytes((ROOT / "firmware-agent/sim/assets/demo.dbc").read_bytes())
    subprocess.run([agent, "simulate", "head_on", "--seed", "1", "--fps", "5", "--width", "320", "--height", "192", "--out",
                    "drive.mcap"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    broker = subprocess.Popen(["mosquitto", "-c", "mosquitto.conf"], cwd=folder, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    heard = open(folder / "heard.jsonl", "w+b")
    ear = subprocess.Popen([agent, "listen", "--broker", f"mqtt://127.0.0.1:{port}", "--json"], cwd=folder, stdout=heard,
                           stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    ballast = disk / "ballast"

    def fill():
        with open(ballast, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def remount(how):
        subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)

    phases = [("sound", lambda: None), ("full", fill), ("full", lambda: None), ("read-only", lambda: remount("ro")),
              ("read-only", lambda: None), ("sound again", lambda: (remount("rw"), ballast.unlink()))]
    starts, wrong, files, ids = [], [], {}, set()
    for phase, before in phases:
        before()
        mark = heard.seek(0, 2)
        with open(folder / "log", "w+b") as log:
            begun = time.monotonic()
            code = subprocess.run([agent, "run", "--config", "unit.toml"], cwd=folder, stderr=log, timeout=300).returncode
            took = time.monotonic() - begun
            log.seek(0)
            words = log.read().decode(errors="replace")
        time.sleep(1)
        heard.seek(mark)
        # What was acknowledged while the disk could not forget it comes again: a receiver drops it by its id, as `listen` marks it.
        lines = [json.loads(line) for line in heard.read().decode().splitlines()]
        again = sum(line["duplicate"] for line in lines)
        messages = [line.get("message") or {} for line in lines if not line["duplicate"]]
        alerts = [m["alert"] for m in messages if "alert" in m and m["alert"]["revision"] == 0]
        reports = [m["report"] for m in messages if "report" in m]
        healths = [m["health"]["storage"] for m in messages if "health" in m]
        named = [r["evidence_file"] for r in reports if r.get("evidence_file")]
        for file in named:
            path = disk / "evidence" / file["name"]
            if not path.exists() or digest(path) != file["sha256_8"]:
                wrong.append(f"{phase}: {file['name']} is not what its report says")
            else:
                files[path] = digest(path)
        for alert in alerts:
            key = (alert["event"]["boot"], alert["event"]["seq"])
            if key in ids:
                wrong.append(f"{phase}: event {key} came twice")
            ids.add(key)
        if code != 0 or not alerts or len(reports) != len(alerts):
            wrong.append(f"{phase}: ended with {code}, {len(alerts)} alerts, {len(reports)} reports: {words[-600:]}")
        if phase.startswith("sound") != bool(named):
            wrong.append(f"{phase}: {len(named)} reports name a file")
        said = [line for line in words.splitlines() if "outbox" in line or "evidence" in line]
        starts.append({"disk": phase, "s": round(took, 1), "alerts": len(alerts), "reports": len(reports), "files": len(named), "again": again,
                       "start": sorted({a["event"]["boot"] for a in alerts}), "storage": healths[-1:], "said": said[:6]})
    wrong += [f"{path.name} is gone or changed" for path, was in files.items() if not path.exists() or digest(path) != was]
    ear.terminate()
    ear.wait()
    broker.terminate()
    broker.wait()
    print(json.dumps({"mb": args.mb, "starts": starts, "wrong": wrong}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
