"""Trains the risk head on sequences that the `risk_features` example of the agent makes from simulated drives.

The head: a small network on each track's slot, the maximum over the slots, a gated recurrent unit over time (10 steps a
second), and two probabilities: a collision within the next 2 s, and one having begun within the last second. Half of the
drives are shown without telemetry. Calibrated on the validation seeds by a temperature and a shift per output, which are
folded into the last layer, so that the shipped graph says probabilities. Deterministic for a seed on one machine.

    train.py --recipe recipe.json --train P [P ...] --validation P [P ...] --test P --out DIR

P is the PREFIX of the example. Writes checkpoint.pt (resumable), risk.onnx with its manifest and golden values, metrics.json. Needs torch, numpy, onnx,
scikit-learn.
"""

import argparse
import hashlib
import json
import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SLOTS, SLOT, GLOBAL = 8, 36, 16
# Columns of the globals that telemetry fills: speed on.
TELEMETRY = slice(5, GLOBAL)
# What training asks of each moment besides: a contact within so many seconds, one of this vehicle within two, a moment of
# closeness of either kind within two, and a near collision that is over or under way.
HINTS = ("contact in 0.5 s", "in 1 s", "in 4 s", "of ego in 2 s", "event in 2 s", "near now")


class RiskHead(nn.Module):
    """Slots (b x 8 x 36), a mask of those filled (b x 8), globals (b x 16), state (b x hidden) to logits and state."""

    def __init__(self, embed, hidden):
        super().__init__()
        self.slot = nn.Sequential(nn.Linear(SLOT, embed), nn.ReLU(), nn.Linear(embed, embed), nn.ReLU())
        self.join = nn.Sequential(nn.Linear(embed + GLOBAL, hidden), nn.ReLU())
        self.gates = nn.Linear(2 * hidden, 2 * hidden)
        self.candidate = nn.Linear(2 * hidden, hidden)
        self.out = nn.Linear(2 * hidden, 2)
        # What training asks besides; not exported.
        self.hints = nn.Linear(2 * hidden, len(HINTS))

    def encode(self, slots, mask, moment):
        # What ReLU leaves is at least 0, so an empty slot as 0 never wins over a filled one.
        tracks = (self.slot(slots) * mask.unsqueeze(-1)).amax(-2)
        return self.join(torch.cat((tracks, moment), -1))

    def step(self, x, state):
        gates = torch.sigmoid(self.gates(torch.cat((x, state), -1)))
        keep, reset = gates.chunk(2, -1)
        fresh = torch.tanh(self.candidate(torch.cat((x, reset * state), -1)))
        state = keep * state + (1 - keep) * fresh
        return self.out(torch.cat((x, state), -1)), state

    def sequence(self, slots, mask, moment):
        """b x t x ... to logits b x t x 2, from a state of zeros."""
        return self.out(self.states(slots, mask, moment))

    def states(self, slots, mask, moment):
        """b x t x ... to what `out` reads, b x t x 2 hidden. As `step` says it, with what depends on no state computed
        for all times at once."""
        x = self.encode(slots, mask, moment)
        n = x.shape[-1]
        gates, candidate = self.gates.weight, self.candidate.weight
        gates_x = F.linear(x, gates[:, :n], self.gates.bias).unbind(1)
        candidate_x = F.linear(x, candidate[:, :n], self.candidate.bias).unbind(1)
        gates_h, candidate_h = gates[:, n:].t(), candidate[:, n:].t()
        state, states = x.new_zeros(x.shape[0], n), []
        for g, c in zip(gates_x, candidate_x):
            keep, reset = torch.sigmoid(torch.addmm(g, state, gates_h)).chunk(2, -1)
            state = torch.lerp(torch.tanh(torch.addmm(c, reset * state, candidate_h)), state, keep)
            states.append(state)
        return torch.cat((x, torch.stack(states, 1)), -1)


class Shipped(nn.Module):
    """One step as the agent runs it: probabilities and the next state."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, slots, mask, moment, state):
        logits, state = self.head.step(self.head.encode(slots, mask, moment), state)
        return torch.sigmoid(logits), state


def load(prefixes, recipe, ideal=True):
    """Whole drives: list of dicts with slots, mask, moment, labels, t, and the drive's line. Without `ideal` those whose boxes
    had no errors are left out: no unit sees so."""
    drives = []
    for prefix in prefixes:
        steps = np.load(prefix + ".steps.npy", mmap_mode="r")
        with open(prefix + ".drives.jsonl") as f:
            lines = [json.loads(line) for line in f]
        rows = np.asarray(steps[:, -1]).astype(int)
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], np.arange(len(lines) + 1))
        for number, line in enumerate(lines):
            part = np.asarray(steps[order[bounds[number]:bounds[number + 1]]])
            if len(part) < 20 or (line.get("ideal") and not ideal):
                continue
            t = part[:, -2]
            contact = line["event"]["contact_s"] if line["severity"] == "collision" and line["event"] else None
            labels = np.zeros((len(part), 2), np.float32)
            if contact is not None:
                labels[:, 0] = (t < contact) & (contact <= t + recipe["ahead_s"])
                labels[:, 1] = (t >= contact) & (t <= contact + recipe["now_s"])
            hints = np.zeros((len(part), len(HINTS)), np.float32)
            if line["event"]:
                left = line["event"]["contact_s"] - t
                if contact is not None:
                    for k, most in enumerate((0.5, 1.0, 4.0)):
                        hints[:, k] = (left > 0) & (left <= most)
                    hints[:, 3] = (left > 0) & (left <= 2.0) & bool(line["event"]["ego_takes_part"])
                else:
                    hints[:, 5] = np.abs(left) <= 1.0
                hints[:, 4] = (left > 0) & (left <= 2.0)
            count = part[:, -4]
            drives.append({
                "slots": torch.from_numpy(part[:, :SLOTS * SLOT].reshape(-1, SLOTS, SLOT)).half(),
                "mask": torch.from_numpy((np.arange(SLOTS)[None] < count[:, None]).astype(np.float32)),
                "moment": torch.from_numpy(part[:, SLOTS * SLOT:SLOTS * SLOT + GLOBAL].copy()),
                "labels": torch.from_numpy(labels), "hints": torch.from_numpy(hints),
                "t": t, "contact": contact, "line": line,
            })
    return drives


def draw(drives, recipe, step):
    """The batch of a step: windows that begin anywhere, half of them without telemetry."""
    rng = np.random.default_rng([recipe["seed"], step])
    n = recipe["window"]
    parts = {"slots": [], "mask": [], "moment": [], "labels": [], "hints": [], "there": []}
    for _ in range(recipe["batch"]):
        d = drives[rng.integers(len(drives))]
        at = int(rng.integers(max(1, len(d["t"]) - n + 1)))
        take = lambda x: x[at:at + n]
        slots, mask, moment, labels, hints = (take(d[k]) for k in ("slots", "mask", "moment", "labels", "hints"))
        moment = moment.clone()
        if rng.random() < recipe["telemetry_dropout"]:
            moment[:, TELEMETRY] = 0
        mask = mask * torch.from_numpy((rng.random(mask.shape) >= recipe["slot_dropout"] * rng.random()).astype(np.float32))
        pad = n - len(labels)
        there = torch.ones(len(labels))
        for k, v in (("slots", slots.float()), ("mask", mask), ("moment", moment), ("labels", labels), ("hints", hints),
                     ("there", there)):
            parts[k].append(F.pad(v, [0, 0] * (v.ndim - 1) + [0, pad]))
    return {k: torch.stack(v) for k, v in parts.items()}


@torch.no_grad()
def run(head, drives, telemetry):
    """Logits of every step of every drive."""
    head.eval()
    out = []
    for d in drives:
        moment = d["moment"].clone()
        if not telemetry:
            moment[:, TELEMETRY] = 0
        out.append(head.sequence(d["slots"].float()[None], d["mask"][None], moment[None])[0].numpy())
    head.train()
    return out


def calibrate(head, drives):
    """Temperature and shift per output that fit validation best, with and without telemetry together; into `out`."""
    logits = np.concatenate(run(head, drives, True) + run(head, drives, False))
    labels = torch.cat([d["labels"] for d in drives] * 2).numpy()
    for k in range(2):
        x, y = torch.from_numpy(logits[:, k]), torch.from_numpy(labels[:, k])
        a, b = torch.ones(1, requires_grad=True), torch.zeros(1, requires_grad=True)
        optim = torch.optim.LBFGS([a, b], max_iter=100)

        def closure():
            optim.zero_grad()
            loss = F.binary_cross_entropy_with_logits(a * x + b, y)
            loss.backward()
            return loss

        optim.step(closure)
        with torch.no_grad():
            head.out.weight[k] *= a.item()
            head.out.bias[k] = head.out.bias[k] * a.item() + b.item()


def ece(p, y, bins=15):
    """Expected calibration error over equal-width bins."""
    at = np.minimum((p * bins).astype(int), bins - 1)
    return float(sum(abs(p[at == k].mean() - y[at == k].mean()) * (at == k).mean() for k in range(bins) if (at == k).any()))


def metrics(head, drives, telemetry):
    """Figures of one split. One second ahead: the step nearest to contact - 1 s of each collision, and of every other
    drive the step at a place of its own (the closest moment of a near collision, the middle of a normal drive)."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    probs = [1 / (1 + np.exp(-l)) for l in run(head, drives, telemetry)]
    p, y = np.concatenate(probs), torch.cat([d["labels"] for d in drives]).numpy()
    out = {"steps": len(p), "drives": len(drives)}
    for k, name in enumerate(("ahead", "now")):
        out[name] = {
            "brier": float(((p[:, k] - y[:, k]) ** 2).mean()), "mae": float(abs(p[:, k] - y[:, k]).mean()),
            "ece": ece(p[:, k], y[:, k]), "ap_of_steps": float(average_precision_score(y[:, k], p[:, k])),
        }
    score, truth, seen = [], [], []
    for d, q in zip(drives, probs):
        event, end = d["line"]["event"], d["t"][-1]
        at = event["contact_s"] - 1.0 if event else 0.5 * end
        k = int(np.abs(d["t"] - at).argmin())
        score.append(q[k, 0])
        truth.append(d["contact"] is not None)
        seen.append(bool(event and event["sign_in_view"] and event["first_sign_s"] <= event["contact_s"] - 1.0))
    score, truth, seen = np.array(score), np.array(truth), np.array(seen)
    precision, recall, _ = precision_recall_curve(truth, score)
    good = precision[:-1] >= 0.94
    out["one_second_ahead"] = {
        "n": len(truth), "collisions": int(truth.sum()), "ap": float(average_precision_score(truth, score)),
        "recall_at_precision_0.94": float(recall[:-1][good].max()) if good.any() else 0.0,
        "brier": float(((score - truth) ** 2).mean()), "ece": ece(score, truth),
    }
    shown = seen | ~truth
    precision, recall, _ = precision_recall_curve(truth[shown], score[shown])
    good = precision[:-1] >= 0.94
    out["one_second_ahead_where_it_shows"] = {
        "n": int(shown.sum()), "collisions": int(truth[shown].sum()),
        "recall_at_precision_0.94": float(recall[:-1][good].max()) if good.any() else 0.0,
    }
    return out, probs


def peaks(drives, probs):
    """Per drive: largest probabilities, for thresholds on events."""
    rows = []
    for d, q in zip(drives, probs):
        line, c = d["line"], d["contact"]
        near = np.abs(d["t"] - c) <= 2.5 if c is not None else np.ones(len(q), bool)
        rows.append({
            "scenario": line["scenario"], "severity": line["severity"], "way_m": line["way_m"], "seed": line["seed"],
            "ego": bool(line["event"] and line["event"]["ego_takes_part"]),
            "dv": line["event"]["delta_v_150ms_kmh"] if line["event"] else 0.0,
            "telemetry": bool(line["telemetry_alerts_s"]),
            "ahead": float(q[near, 0].max()), "now": float(q[near, 1].max()),
        })
    return rows


def export(head, recipe, path):
    hidden = recipe["hidden"]
    example = (torch.zeros(1, SLOTS, SLOT), torch.zeros(1, SLOTS), torch.zeros(1, GLOBAL), torch.zeros(1, hidden))
    torch.onnx.export(
        Shipped(head).eval(), example, path, opset_version=13, dynamo=False,
        input_names=["slots", "mask", "moment", "state"], output_names=["risk", "next_state"],
    )
    # Two steps on made-up values, for the test of the agent's runtime.
    slots = torch.sin(0.37 * torch.arange(SLOTS * SLOT)).view(1, SLOTS, SLOT)
    mask = (torch.arange(SLOTS) < 5).float()[None]
    moment = torch.cos(0.91 * torch.arange(GLOBAL))[None]
    state, lines = torch.zeros(1, hidden), []
    with torch.no_grad():
        for scale in (1.0, -0.5):
            risk, state = Shipped(head)(slots * scale, mask, moment * scale, state)
            lines.append(" ".join(f"{v:.8f}" for v in risk[0].tolist()))
    with open(os.path.join(os.path.dirname(path), "risk.golden.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")
    digest = hashlib.sha256(open(path, "rb").read()).hexdigest()
    with open(os.path.join(os.path.dirname(path), "risk.toml"), "w") as f:
        f.write("# The risk head that ships: made by models/train/risk, on simulated drives alone.\n")
        f.write(f'file = "risk.onnx"\nsha256 = "{digest}"\nfeatures = 1\nstate = {hidden}\n')
        f.write('licence = "Apache-2.0"\nsource = "models/train/risk, simulated drives"\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--validation", nargs="+", required=True)
    parser.add_argument("--test", nargs="+", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    torch.set_num_threads(args.threads)
    with open(args.recipe) as f:
        recipe = json.load(f)
    torch.manual_seed(recipe["seed"])
    head = RiskHead(recipe["embed"], recipe["hidden"])
    optim = torch.optim.AdamW(head.parameters(), lr=recipe["lr"], weight_decay=recipe["decay"])
    place, step = os.path.join(args.out, "checkpoint.pt"), 0
    if os.path.exists(place):
        state = torch.load(place, weights_only=True)
        head.load_state_dict(state["head"])
        optim.load_state_dict(state["optim"])
        step = state["step"]
    train, validation = load(args.train, recipe), load(args.validation, recipe, ideal=False)
    print(f"{len(train)} drives to train on, {len(validation)} to choose by; from step {step}", flush=True)
    while step < recipe["steps"]:
        done = step / recipe["schedule_steps"]
        for group in optim.param_groups:
            warm = min(1.0, (step + 1) / recipe["warmup"])
            group["lr"] = recipe["lr"] * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))
        b = draw(train, recipe, step)
        states = head.states(b["slots"], b["mask"], b["moment"])
        # The state needs a second to know anything: its first steps are not judged.
        there = b["there"].clone()
        there[:, :10] = 0
        loss = F.binary_cross_entropy_with_logits(head.out(states), b["labels"], reduction="none").mean(-1)
        hints = F.binary_cross_entropy_with_logits(head.hints(states), b["hints"], reduction="none").mean(-1)
        loss = ((loss + recipe.get("hints", 0.0) * hints) * there).sum() / there.sum()
        optim.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optim.step()
        step += 1
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.4f}", flush=True)
        if step % 500 == 0 or step == recipe["steps"]:
            torch.save({"head": head.state_dict(), "optim": optim.state_dict(), "step": step}, place + ".part")
            os.replace(place + ".part", place)
            figures, _ = metrics(head, validation[:150], True)
            print(json.dumps(figures["one_second_ahead"]), flush=True)
    calibrate(head, validation)
    out = {"recipe": recipe, "features": 1, "drives": {"train": len(train), "validation": len(validation)}}
    for name, drives in (("validation", validation), ("test", load(args.test, recipe, ideal=False))):
        for telemetry in (True, False):
            figures, probs = metrics(head, drives, telemetry)
            key = f"{name}, {'with' if telemetry else 'without'} telemetry"
            out[key] = figures
            with open(os.path.join(args.out, f"peaks-{name}-{'t' if telemetry else 'v'}.json"), "w") as f:
                json.dump(peaks(drives, probs), f)
    export(head, recipe, os.path.join(args.out, "risk.onnx"))
    out["sha256"] = hashlib.sha256(open(os.path.join(args.out, "risk.onnx"), "rb").read()).hexdigest()
    with open(os.path.join(args.out, "metrics.json"), "w") as f:
        f.write(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
