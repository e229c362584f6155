#!/usr/bin/env python3
"""All clips through the detector that ships and two others, judged by the risk head that ships and by the rule of looming that stands in
where there is none: what fired, when, against the labels; whether the normal clips stay quiet.
And what the student that ships says of each, asked about the labelled moment (of a normal clip its middle).

Fifteen clips are smoke evidence: they cannot support a claim of accuracy. Thresholds are those that ship. The two
clips in MPEG-4 part 2 are converted to H.264 first (ffmpeg, x264, crf 18), marked "converted"; the importer encodes
clips with B-frames anew, marked "anew".

usage: clips.py
"""
import csv
import json
import subprocess
import sys
from pathlib import Path

import common
import load

# An alert belongs to the labelled crash from this long before it (the trigger's own limit of time to collision) ...
EARLY_S = 2.0
# ... to this long after it.
LATE_S = 1.0

# Who judges, and how a unit is told so.
JUDGES = {"the risk head": "", "the rule": 'risk_head = "none"', "both": 'rule = "beside"'}


def codec(path):
    return subprocess.run(["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "stream=codec_name",
                           "-of", "csv=p=0", path], capture_output=True, text=True, check=True).stdout.strip(" ,\n")


def make_drives(folder, labels):
    """Drives of the clips, and the videos that they were made of."""
    drives, videos = [], []
    for label in labels:
        clip = common.DATA / "clips" / f"{label['clip']}.mp4"
        label["converted"] = codec(clip) != "h264"
        if label["converted"]:
            h264 = folder / clip.name
            common.ffmpeg("-i", clip, "-c:v", "libx264", "-crf", 18, "-bf", 0, "-pix_fmt", "yuv420p", "-an", h264)
            clip = h264
        drive = folder / f"{label['clip']}.mcap"
        label["anew"] = common.import_drive(drive, "--video", clip)["transcoded"]
        drives.append(drive)
        videos.append(clip)
    return drives, videos


def scored_frames(out):
    """(time, risk, contact) of each scored frame; columns by their names, so that further ones are passed over."""
    with open(out / "risk.csv", encoding="utf-8") as rows:
        return [(float(row["t_s"]), float(row["risk"]), float(row["contact"] or 0)) for row in csv.DictReader(rows)]


def auc(crashes, normal):
    """Share of pairs in order, ties half."""
    pairs = [(a > b) + 0.5 * (a == b) for a in crashes for b in normal]
    return sum(pairs) / len(pairs)


def judge(label, out):
    """One row: highest risk and when, what fired and when, and the verdict. Drives of a video begin at 0."""
    rows = scored_frames(out)
    top = max(rows, key=lambda r: r[1])
    alerts = [json.loads(line)["message"].get("alert") for line in open(out / "messages.jsonl")]
    fired = [(a["kind"], a["time"]["mono_ns"] / 1e9) for a in alerts if a and a["revision"] == 0]
    crash = float(label["event_s"]) if label["event_s"] else None
    times = ", ".join(f"{t:.2f} ({kind.replace('_', ' ')})" for kind, t in fired) or "-"
    if crash is None:
        verdict = "quiet" if not fired else "FALSE ALERT"
        lead = "-"
    else:
        before = [crash - t for _, t in fired]
        lead = ", ".join(f"{b:+.2f}" for b in before) or "-"
        in_time = any(-LATE_S <= b <= EARLY_S for b in before)
        verdict = "in time" if in_time else "only outside" if fired else "missed"
    risk = f"{top[1]:.2f} at {top[0]:.2f}"
    name = label["clip"] + (" (converted)" if label["converted"] else " (anew)" if label["anew"] else "")
    label["risk"], label["contact"] = top[1], max(r[2] for r in rows)
    return (name, label["label"], label["event_s"] or "-", len(rows), risk, times, lead, verdict)


def seconds(video):
    return float(subprocess.run(["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", video],
                                capture_output=True, text=True, check=True).stdout)


def student_says(folder, label, video):
    """One row. An airbag frame on a made-up bus opens the event at the labelled moment, because few clips raise one by
    themselves; no model of the trigger runs."""
    at = float(label["event_s"]) if label["event_s"] else seconds(video) / 2
    log, drive, out = (folder / f"student-{label['clip']}{end}" for end in (".log", ".mcap", ""))
    with open(log, "w") as f:
        for tick in range(int(seconds(video) * 100)):
            on = int(at <= tick / 100 < at + 0.4)
            f.write(f"({tick / 100:.6f}) can0 050#{on:02X}00000000000000\n")
    common.import_drive(drive, "--simulated", "--candump", log, "--video", video)
    (folder / "bench.dbc").write_text(load.DBC)
    config = folder / "student.toml"
    config.write_text("""inherits = "base"
[unit]
name = "bench"
fleet = "bench"
[can]
dbc = "bench.dbc"
[can.signals]
airbag_deployed = "AIRBAG_STATUS.AIRBAG_DEPLOYED"
[trigger.vision]
model = "none"
""")
    common.agent("replay", drive, "--out", out, "--config", config, "--student",
                 common.ROOT / "models/artifacts/student.gguf", "--no-evidence")
    lines = [json.loads(line) for line in open(out / "messages.jsonl")]
    line = [l for l in lines if "report" in l["message"]][-1]
    said = line["message"]["report"]["student"]
    name = label["clip"]
    if "answered" not in said:
        return (name, label["label"], label["note"], f"{at:.2f}", "no answer", str(said), "-", "-")
    words, said = line["student_words"], said["answered"]
    return (name, label["label"], label["note"], f"{at:.2f}", said["frames"], f"{said['recognition_e4'] / 1e4:.2f}",
            words["description"], words["cause"])


def score_by(folder, name, model, score, by, labels, drives):
    """Prints what a detector makes of the clips by one of the judges."""
    config = folder / f"{by.split()[-1]}.toml"
    config.write_text(f'inherits = "base"\n[unit]\nname = "bench"\nfleet = "bench"\n[trigger.vision]\n{JUDGES[by]}\n')
    rows = []
    for label, drive in zip(labels, drives):
        out = folder / f"out-{name}-{config.stem}-{label['clip']}"
        common.agent("replay", drive, "--out", out, "--config", config, "--trigger", model, "--risk-log", "--no-evidence",
                     codes=(0, 5), quiet=False)
        rows.append(judge(label, out))
    count = lambda verdict: sum(r[-1] == verdict for r in rows)
    crashes, normal = (sum(r[1] == label for r in rows) for label in ("collision", "normal"))
    most = lambda what: auc(*([l[what] for l in labels if l["label"] == kind] for kind in ("collision", "normal")))
    contact = f", contact {most('contact'):.2f}" if by == "the risk head" else ""
    print(f"**{name}, {by}**, score threshold {score}, thresholds of risk that ship: "
          f"of {crashes} clips with a crash {count('in time')} fired from {EARLY_S:g} s before to {LATE_S:g} s after it, "
          f"{count('only outside')} only outside that, {count('missed')} not at all; "
          f"{count('quiet')} of {normal} normal clips quiet.\n")
    # Of both the tables are those of either.
    if by == "both":
        return
    print(f"Highest of a crash clip above that of a normal one (AUC over {crashes} x {normal} pairs): "
          f"risk ahead {most('risk'):.2f}{contact}.\n")
    common.table(["clip", "label", "event_s", "frames scored", "highest risk at s", "fired at s", "s before event_s", "verdict"], rows)


def main():
    common.need_data()
    common.need("ffmpeg", "ffprobe")
    labels = list(csv.DictReader(open(common.DATA / "labels.csv")))
    print("### Clips through the detectors\n")
    print(common.machine() + "\n")
    with common.scratch() as folder:
        folder = Path(folder)
        drives, videos = make_drives(folder, labels)
        for name, manifest, onnx in [("shipped", None, None), *common.DETECTORS]:
            model = common.install_model(folder, manifest, onnx) if manifest else common.ROOT / "models/artifacts/trigger.toml"
            score = next(l.split("=")[1].split("#")[0].strip() for l in model.read_text().splitlines() if l.startswith("score_threshold"))
            for by in JUDGES:
                score_by(folder, name, model, score, by, labels, drives)
        print("**What the small student says**: it knows simulated roads alone; asked about the labelled moment (of a normal clip its "
              "middle), which a made-up airbag frame marks.\n")
        common.table(["clip", "label", "what is seen", "asked at s", "frames", "probability of a collision", "description", "cause"],
                     [student_says(folder, label, video) for label, video in zip(labels, videos)])


if __name__ == "__main__":
    main()
