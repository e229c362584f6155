#!/usr/bin/env python3
"""False events over thousands of simulated kilometres, and collisions found: drives of the test split without a camera (bus, motion
sensor and fixes), every kind of ordinary driving and hard negatives by turns, replayed and scored by `firmware-agent eval`.

What the trigger model would add, right or wrong, is not in it: pictures of as many kilometres take days to paint (tests/bench/eval.sh
has them). Prints a table with exact 95 % bounds.

usage: false_events.py [--km 1000] [--collisions 500]        (AGENT_BIN, else target/release/firmware-agent)
"""
import argparse
import json
import math
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import common

BATCH = 300


def agent(*args):
    return subprocess.run([common.AGENT, *map(str, args)], check=True, capture_output=True, text=True).stdout


def simulate(folder, scenario, seed):
    out = folder / f"{scenario}-{seed}.mcap"
    agent("simulate", scenario, "--seed", seed, "--fps", 0, "--out", out)
    return json.loads(Path(f"{out}.truth.json").read_text())


def simulate_all(drives, folder):
    """Simulates (scenario, seed), in place of what was in the folder; gives their truths."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "drives").mkdir(parents=True)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda drive: simulate(folder / "drives", *drive), drives))


def score(drives, folder):
    """Simulates (scenario, seed) and gives their truths and what eval found."""
    truths = simulate_all(drives, folder)
    agent("eval", "--drives", folder / "drives", "--split", "test", "--out", folder)
    return truths, json.loads((folder / "eval.json").read_text())


def bound(count, cdf, low, high):
    """Where the chance of at most `count` has come down to 2.5 %."""
    for _ in range(100):
        mean = (low + high) / 2
        low, high = (mean, high) if cdf(count, mean) > 0.025 else (low, mean)
    return high


def poisson(count, mean):
    return sum(math.exp(-mean + i * math.log(mean) - math.lgamma(i + 1)) for i in range(count + 1))


def binomial(n):
    def log(i, p):
        return math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
    return lambda count, p: sum(math.exp(log(i, p)) for i in range(count + 1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--km", type=float, default=1000)
    parser.add_argument("--collisions", type=int, default=500)
    args = parser.parse_args()
    names = [line.split()[0] for line in agent("simulate", "--list").splitlines()]
    counts, km, drives, which = {"false": 0, "harsh": 0}, 0.0, 0, []
    found, missed, seen = 0, [], 0
    seeds = common.test_seeds()
    with common.scratch() as folder:
        folder = Path(folder) / "batch"
        first = next(seeds)
        truths = simulate_all([(name, first) for name in names], folder)
        ordinary = [n for n, t in zip(names, truths) if t["severity"] == "normal"]
        collisions = [n for n, t in zip(names, truths) if t["contacts"] and t["severity"] == "collision" and not n.startswith("others_")]
        while km < args.km:
            batch = [(ordinary[i % len(ordinary)], next(seeds)) for i in range(BATCH)]
            truths, scored = score(batch, folder)
            drives += sum(t["severity"] == "normal" for t in truths)
            for figure in scored["results"]["figures"]:
                if match := re.match(r"(false|harsh driving) events per 1,000 km, normal drives \((\d+) in ([\d.]+) km\)", figure["name"]):
                    counts[match[1].split()[0]] += int(match[2])
                    km += float(match[3]) if match[1] == "false" else 0
            which += [(d["drive"], [e.get("kind") for e in d["events"]]) for d in scored["each"] if d["events"] and d["severity"] == "normal"]
            common.say(f"{km:.0f} km, {counts}")
        while seen < args.collisions:
            batch = [(collisions[i % len(collisions)], next(seeds)) for i in range(BATCH)]
            _, scored = score(batch, folder)
            for figure in scored["results"]["figures"]:
                if figure["name"] == "recall, collisions of the ego vehicle":
                    hits, of = figure["share"]
                    found, seen = found + hits, seen + of
            missed += [d["drive"] for d in scored["each"] if d["severity"] == "collision" and not d["events"]]
            common.say(f"{found} of {seen} collisions")
    print("### False events and collisions without a camera (simulated drives of the test split)\n")
    print(common.machine() + "\n")
    rows = [(f"{what} events, {drives} ordinary drives, {km:.0f} km", n, f"{n / km * 1000:.2f} in 1,000 km",
             f"{bound(n, poisson, 1e-9, 100 + 10 * n) / km * 1000:.2f}") for what, n in counts.items()]
    if seen:
        low = 1 - bound(seen - found, binomial(seen), 1e-9, 1 - 1e-9)
        rows.append((f"collisions of the ego vehicle, {seen}", found, f"recall {found / seen:.4f}", f"at least {low:.4f}"))
    common.table(["what", "count", "figure", "95 % bound"], rows)
    print("ordinary drives with an event: " + (", ".join(f"{d} ({', '.join(map(str, k))})" for d, k in which[:60]) or "none"))
    print("collisions without an event: " + (", ".join(missed[:60]) or "none"))


if __name__ == "__main__":
    main()
