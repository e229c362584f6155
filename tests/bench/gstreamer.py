#!/usr/bin/env python3
"""The program built with GStreamer, end to end, on this machine's own GStreamer and a real Mosquitto.

1. `import` and `replay` of codecs and containers that the plain build refuses: drawn by ffmpeg, frames counted against ffprobe's.
2. `doctor` and `record` of a drawn camera, and `inspect` of the drive made.
3. `run` with the journal always on is killed in the middle: the next start makes evidence with the camera's frames of it.
4. `run` with a real crash clip as its camera (with the data folder): an alert, a report and evidence with video. The way is what is
   tried, not the model: its thresholds are lowered to 0.05, below what this clip has reached.

Prints a table; exit code 1 if something does not hold. Needs ffmpeg, mosquitto and GStreamer's base, good, bad, ugly and libav
plugins, and a build with `--features gstreamer` (AGENT_BIN).

usage: gstreamer.py
"""
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import common

# Name, what ffmpeg makes of its test picture.
CODECS = [
    ("MPEG-4 part 2 in AVI", "a.avi", ["-c:v", "mpeg4", "-q:v", 4]),
    ("MPEG-4 part 2 in MP4", "a.mp4", ["-c:v", "mpeg4", "-q:v", 4]),
    ("H.265 in MP4", "b.mp4", ["-c:v", "libx265", "-x265-params", "log-level=error", "-tag:v", "hvc1"]),
    ("H.265 in Matroska", "b.mkv", ["-c:v", "libx265", "-x265-params", "log-level=error"]),
    ("VP9 in WebM", "c.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-b:v", "1M"]),
    ("Motion JPEG in AVI", "d.avi", ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", 4]),
    ("H.264 in Matroska", "e.mkv", ["-c:v", "libx264", "-bf", 2, "-pix_fmt", "yuv420p"]),
]
DRAWN_S, FPS = 3, 25
CONFIG = """[unit]
name = "gst"
fleet = "bench"

[link]
broker = "{broker}"
health_interval_s = 5

[evidence]
quota_mb = 400
persist = "{persist}"

[rings]
post_roll_s = 2

[sources]
kind = "device"

[sources.camera]
kind = "{kind}"
encoder = "x264enc"
{more}
"""
rows = []


def check(what, seen, holds):
    rows.append((what, seen, "yes" if holds else "NO"))
    common.say(f"{what}: {seen}: {'yes' if holds else 'NO'}")


def frames_of(path):
    call = ["ffprobe", "-v", "error", "-select_streams", "v", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"]
    return int(subprocess.run([*call, path], capture_output=True, text=True, check=True).stdout.strip(" ,\n"))


def imports(folder):
    clips = []
    for name, file, how in CODECS:
        clip = folder / file
        common.ffmpeg("-f", "lavfi", "-i", f"testsrc2=size=640x360:rate={FPS}:duration={DRAWN_S}", *how, clip)
        clips.append((name, clip))
    for clip in ["jg_ccd_crash_01.mp4", "jg_ccd_crash_04.mp4"]:
        if common.DATA.is_dir():
            clips.append((clip, common.DATA / "clips" / clip))
    for i, (name, clip) in enumerate(clips):
        drive, out = folder / f"{i}.mcap", folder / f"out{i}"
        made = common.import_drive(drive, "--video", clip)
        common.agent("replay", drive, "--out", out)
        summary = json.loads((out / "summary.json").read_text())["drives"][0]
        there = frames_of(clip)
        seen = f"{there} frames, {made['frames']} imported, {summary['frames_scored']} scored"
        check(f"import: {name}", seen, made["frames"] == summary["frames_scored"] == there)


def unit(folder, broker, kind, persist="risk", more=""):
    config = folder / "unit.toml"
    config.write_text(CONFIG.format(broker=broker.url, persist=persist, kind=kind, more=more))
    return config


def live(folder, broker):
    config = unit(folder, broker, "test")
    # What else the unit lacks is no matter here.
    lines = common.agent("doctor", "--config", config, "--seconds", 10, codes=(0, 1)).splitlines()
    seen = next(line for line in map(json.loads, lines) if line["check"] == "camera")
    camera = seen["seen"]
    told = f"{camera['frames']} frames at {camera['fps']:.1f} a second, {camera['lost']} lost, {camera['codec']}"
    check("doctor: a drawn camera", told, seen["works"] and camera["frames"] > 200)
    drive = folder / "recorded.mcap"
    common.agent("record", "--config", config, "--out", drive, "--seconds", 6)
    frames = frames_in(drive)
    check("record: 6 s of it", f"{frames} frames in the drive", frames > 120)


class Unit:
    """The daemon and an ear at the broker."""

    def __init__(self, folder, broker, config):
        self.folder = folder
        self.heard = folder / f"heard{time.monotonic_ns()}.jsonl"
        self.ear = subprocess.Popen([common.AGENT, "listen", "--broker", broker.url, "--json"], stdout=open(self.heard, "w"), stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        self.log = folder / "run.log"
        self.process = subprocess.Popen([common.AGENT, "run", "--config", config], stderr=open(self.log, "a"), cwd=folder)

    def messages(self, kind):
        lines = [json.loads(line) for line in self.heard.read_text().splitlines() if line.endswith("}")]
        return [line["message"][kind] for line in lines if kind in line["message"]]

    def wait(self, kind, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.messages(kind):
            time.sleep(0.2)
        return self.messages(kind)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(30)
        self.ear.terminate()
        self.ear.wait()
        return code


def evidence(folder):
    return sorted(folder.glob("**/*.mcap"))


def frames_in(drive):
    channels = json.loads(common.agent("inspect", drive, "--json", codes=(0, 5)))["channels"]
    return channels.get("frames", {"count": 0})["count"]


def survives(folder, broker):
    config = unit(folder, broker, "test", persist="always")
    daemon = Unit(folder, broker, config)
    time.sleep(12)
    daemon.stop(signal.SIGKILL)
    daemon = Unit(folder, broker, config)
    time.sleep(5)
    code = daemon.stop()
    counts = [frames_in(file) for file in evidence(folder)]
    check("run, killed after 12 s, started again", f"ended with {code}; evidence with {counts} frames", code == 0 and any(n > 150 for n in counts))


def crash(folder, broker):
    clip = common.DATA / "clips" / "jg_ccd_crash_01.mp4"
    if not clip.is_file():
        check("run: a crash clip as camera, thresholds 0.05", "skipped, no data folder", True)
        return
    low = "[trigger.vision]\nahead_on = 0.05\ncontact_on = 0.05\nrisk_on = 0.05\nrisk_off = 0.02"
    config = unit(folder, broker, "file", more=f'file = "{clip}"\nfps = 10\n\n{low}')
    daemon = Unit(folder, broker, config)
    alerts = daemon.wait("alert", 60)
    reports = daemon.wait("report", 60)
    code = daemon.stop()
    kinds = sorted({alert["kind"] for alert in alerts})
    frames = [frames_in(file) for file in evidence(folder)]
    told = f"{len(alerts)} alerts ({', '.join(kinds)}), {len(reports)} reports, evidence with {frames} frames, ended with {code}"
    check("run: a crash clip as camera, thresholds 0.05", told, bool(alerts and reports) and any(frames) and code == 0)


def main():
    common.need("ffmpeg", "ffprobe", "mosquitto")
    print("### The program built with GStreamer\n")
    print(common.machine().rsplit(";", 1)[0] + "\n")
    with common.scratch() as scratch:
        broker = common.Broker(scratch)
        for part in (imports, live, survives, crash):
            folder = Path(scratch) / part.__name__
            folder.mkdir()
            try:
                part(folder) if part is imports else part(folder, broker)
            except (RuntimeError, KeyError, ValueError) as error:
                check(part.__name__, str(error)[-1500:], False)
        broker.stop()
    common.table(["what", "seen", "holds"], rows)
    return 0 if all(row[2] == "yes" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
