#!/usr/bin/env python3
"""Kills the real agent (SIGKILL) again and again while it plays a simulated crash against a real Mosquitto, and looks at what is left.

    tests/bench/kills.py [--kills 300] [--seed 1] [--agent target/release/firmware-agent]

Each start plays the drive as fast as it can and is killed after a time drawn from the seed; the last one ends by itself. It must hold
that every start comes up; that no event id stands for two events; that whatever a report says of its evidence file is so; that every
event that was alerted has been reported, if need be by a later start; and that at the end nothing waits. Prints a JSON object; exit code 1 if something does not hold.
"""

import argparse
import hashlib
import json
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = """
[unit]
name = "kills"
fleet = "bench"

[trigger.vision]
model = "none"

[can]
dbc = "demo.dbc"

[can.signals]
speed = {{ signal = "VEHICLE_SPEED.SPEED", scale = 0.2777778 }}
brake = "BRAKE_STATUS.BRAKE_PRESSED"
airbag_deployed = "AIRBAG_STATUS.AIRBAG_DEPLOYED"

[fusion]
cool_down_s = 5.0

[link]
broker = "mqtt://127.0.0.1:{port}"

[sources]
drives = ["drive.mcap"]
realtime = false
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--agent", default=str(ROOT / "target/release/firmware-agent"))
    args = parser.parse_args()
    args.agent = str(pathlib.Path(args.agent).resolve())
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        port = free_port()
        (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        (folder / "unit.toml").write_text(CONFIG.format(port=port))
        (folder / "demo.dbc").write_bytes((ROOT / "firmware-agent/sim/assets/demo.dbc").read_bytes())
        subprocess.run([args.agent, "simulate", "head_on", "--seed", "1", "--fps", "5", "--width", "320", "--height", "192",
                        "--out", "drive.mcap"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        broker = subprocess.Popen(["mosquitto", "-c", "mosquitto.conf"], cwd=folder, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        heard = open(folder / "heard.jsonl", "w+b")
        ear = subprocess.Popen([args.agent, "listen", "--broker", f"mqtt://127.0.0.1:{port}", "--json"], cwd=folder, stdout=heard,
                               stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        refused, finished = [], 0
        whole_s = None
        for n in range(args.kills + 1):
            last = n == args.kills
            begun = time.monotonic()
            log = open(folder / "log", "w+b")
            agent = subprocess.Popen([args.agent, "run", "--config", "unit.toml"], cwd=folder, stderr=log)
            try:
                # The first start is whole, and tells how long one takes.
                limit = 120 if last or whole_s is None else draw.uniform(0.02, 1.0) * whole_s
                agent.wait(timeout=limit)
                finished += 1
                if whole_s is None:
                    whole_s = time.monotonic() - begun
                if agent.returncode != 0:
                    log.seek(0)
                    refused.append(log.read().decode(errors="replace")[-500:])
            except subprocess.TimeoutExpired:
                agent.send_signal(signal.SIGKILL)
                agent.wait()
        time.sleep(2)
        ear.terminate()
        ear.wait()
        broker.terminate()
        heard.seek(0)
        alerts, reports, doubles, differing = {}, {}, 0, []
        for line in heard.read().decode().splitlines():
            message = json.loads(line).get("message") or {}
            for kind, table in (("alert", alerts), ("report", reports)):
                if kind not in message:
                    continue
                body = message[kind]
                event = body["event"]
                key = (event["unit"], event["boot"], event["seq"], body.get("revision", 0))
                if key in table:
                    doubles += 1
                    if table[key] != body:
                        differing.append(key)
                table[key] = body
        wrong = []
        for key, report in reports.items():
            file = report.get("evidence_file")
            if not file:
                continue
            paths = [folder / "evidence" / file["name"], folder / "evidence" / "lesser" / file["name"]]
            found = next((p for p in paths if p.exists()), None)
            if found is None or hashlib.sha256(found.read_bytes()).hexdigest()[:16] != file["sha256_8"]:
                wrong.append(file["name"])
        # Nothing may wait: another start sends what does, and there was one that ended by itself.
        left = [k[:3] for k in reports if not any(a[:3] == k[:3] for a in alerts)]
        unreported = sorted({k[:3] for k in alerts} - {k[:3] for k in reports})
        boots = {k[1] for k in alerts}
        result = {
            "kills": args.kills + 1 - finished, "ended_by_themselves": finished, "seed": args.seed, "whole_s": round(whole_s, 2),
            "alerts": len(alerts), "reports": len(reports), "heard_twice": doubles, "starts_with_alerts": len(boots),
            "refused": refused, "one_id_two_events": differing, "evidence_wrong": wrong, "reports_without_alert": left, "alerts_without_report": unreported,
        }
        print(json.dumps(result, indent=1))
        if refused or differing or wrong or left or unreported or not alerts:
            sys.exit(1)


if __name__ == "__main__":
    main()
