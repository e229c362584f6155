"""What the benchmarks share: the binary, the data, a scratch folder, a broker of their own, percentiles, tables.

Environment: AGENT_BIN (default target/release/firmware-agent), AGENT_DATA (default ../shared/data beside the
repository). Results go to stdout as Markdown; what happens meanwhile goes to stderr.
"""
import datetime
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("AGENT_DATA", ROOT.parent / "shared" / "data"))
AGENT = Path(os.environ.get("AGENT_BIN", ROOT / "target" / "release" / "firmware-agent"))
# The 720p clip of the speed and latency benchmarks: MIT, ordinary driving.
CLIP_720P = DATA / "clips" / "carnd_vd_test_small2.mp4"
# Name of the table row, manifest, model file.
DETECTORS = [("FastestDet", "fastestdet.toml", "FastestDet.onnx"), ("YOLOX-nano", "yolox_nano.toml", "yolox_nano.onnx")]


def say(text):
    print(text, file=sys.stderr, flush=True)


def need(*programs):
    """Stops with a reason when something is missing; Debian keeps mosquitto out of the path of ordinary users."""
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    missing = [p for p in programs if shutil.which(p) is None]
    if not AGENT.is_file():
        missing.append(f"{AGENT} (cargo build --release, or AGENT_BIN)")
    if missing:
        sys.exit("missing: " + ", ".join(missing))


def need_data():
    if not DATA.is_dir():
        print("skipped: no data folder (AGENT_DATA)")
        sys.exit(0)


def scratch():
    """A folder that goes away; disk-backed, because durable writes are part of what is measured."""
    return tempfile.TemporaryDirectory(prefix="agent-bench-", dir=os.environ.get("AGENT_BENCH_TMP", "/var/tmp"))


def machine():
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown")
    load = " ".join(open("/proc/loadavg").read().split()[:3])
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    kind = "release" if "release" in AGENT.parts else "debug" if "debug" in AGENT.parts else "unknown"
    return f"{date}; {model}, {os.cpu_count()} cores; load average {load}; {kind} build"


def agent(*args, codes=(0,), quiet=True):
    """Runs the agent to its end; returns its stdout. An exit code outside `codes` is an error."""
    done = subprocess.run([AGENT, *map(str, args)], capture_output=True, text=True)
    if done.returncode not in codes:
        raise RuntimeError(f"{' '.join(map(str, args))}\nexit {done.returncode}\n{done.stderr}")
    if not quiet:
        say(done.stderr.strip())
    return done.stdout


def import_drive(out, *args):
    """Makes a drive; returns the importer's JSON. Exit 5 (rows skipped) is told, not refused."""
    made = json.loads(agent("import", "--out", out, *args, codes=(0, 5)))
    if made["skipped"]:
        say(f"{out}: {made['skipped']} rows skipped")
    return made


def install_model(folder, manifest, onnx):
    """Manifest, model and its probe file side by side, as on a unit; returns the manifest's path."""
    manifests = ROOT / "models" / "manifests"
    shutil.copy(manifests / manifest, folder)
    shutil.copy((manifests / onnx).with_suffix(".probe.txt"), folder)
    shutil.copy(DATA / "models" / onnx, folder)
    return Path(folder) / manifest


def ffmpeg(*args):
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, args)], check=True)


def repeated_clip(out, seconds):
    """The 720p clip end to end until `seconds` are full, its H.264 untouched."""
    times = int(seconds / 3.8) + 1
    ffmpeg("-stream_loop", times, "-i", CLIP_720P, "-c", "copy", "-an", "-t", seconds, out)


def percentile(values, p):
    """Nearest rank: a value that was measured, never one between two."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * p // 100))
    return ordered[int(rank) - 1]


def test_seeds():
    """Seeds of the test split, without end, by the rule in sim/src/world/truth.rs."""
    seed, mask = 0, 2**64 - 1
    while True:
        z = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        if (z ^ (z >> 31)) % 10 == 0:
            yield seed
        seed += 1


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


def median(values):
    return statistics.median(values)


class Broker:
    """A Mosquitto on a free loopback port."""

    def __init__(self, folder):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        config = Path(folder) / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n")
        self.process = subprocess.Popen(["mosquitto", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("mosquitto does not listen")

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def stop(self):
        self.process.terminate()
        self.process.wait()


def resident(pid):
    """VmHWM, VmRSS, and of the latter the pages of files (the program itself), of a process, bytes."""
    found = {}
    for line in open(f"/proc/{pid}/status"):
        name, _, rest = line.partition(":")
        if name in ("VmHWM", "VmRSS", "RssFile"):
            found[name] = int(rest.split()[0]) * 1024
    return found["VmHWM"], found["VmRSS"], found["RssFile"]
