"""Writes cases.json: inputs and what sacrebleu, rouge-score, scikit-learn and scipy say of them.

    pip install sacrebleu rouge-score scikit-learn
    python make_cases.py > cases.json
"""

import json
import random

import sacrebleu
import sklearn.metrics as m
from rouge_score import rouge_scorer
from scipy.stats import beta, chi2
from sklearn.calibration import calibration_curve

draw = random.Random(4)

PAIRS = [
    ("The ego vehicle hits the car ahead.", "The ego vehicle hits the car ahead."),
    ("A truck hits a motorbike.", "The ego vehicle hits a motorbike."),
    ("no collision.", "The car on the left, at 3.5 m, hits the kerb."),
    ("Brake earlier; keep 2.5 s - not 0.8-1 s - behind (wet road)!", "Keep at least 2.5 s behind; brake earlier (wet road)."),
    ("It's the driver's fault, isn't it?", "It is the fault of the driver."),
    ("A &quot;red&quot; light & 1,000.5 km/h: e.g. x/y [z] {q} ~ 12-year-old.", "A \"red\" light &amp; 1,000 km/h, e.g. x/y [z] 12 - year - old."),
    ("", "Something happened here today."),
    ("Caf\u00e9 d\u00e9j\u00e0 vu, stra\u00dfe.", "Cafe d\u00e9j\u00e0 vu, strasse."),
    # sacrebleu takes the line's end away before it joins words at "-" and a line break.
    ("The car ahead brakes at the red-\n", "The car ahead brakes at the red - "),
]
CORPORA = [list(range(8)), [0], [1], [2, 4], [3, 5], [6], [7, 1, 2], [8], [8, 3]]


def bleu(indices):
    return sacrebleu.corpus_bleu([PAIRS[i][0] for i in indices], [[PAIRS[i][1] for i in indices]]).score / 100


scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
rouge = [[scorer.score(b, a)[k].fmeasure for k in ("rouge1", "rouge2", "rougeL")] for a, b in PAIRS]

binary = [(draw.random() < 0.4, draw.random() < 0.5) for _ in range(50)]
truth, answer = zip(*binary)
three = [(draw.randrange(3), draw.randrange(3)) for _ in range(60)]

ranked = []
for coarse in (False, True):
    cases = []
    for _ in range(120):
        p = draw.random()
        y = draw.random() < p * p
        cases.append((round(p, 1) + 0.013 if coarse else p, y))
    cases = [(min(p, 1.0), y) for p, y in cases]
    p, y = zip(*cases)
    precision, recall, _ = m.precision_recall_curve(y, p)
    shares, means = calibration_curve(y, p, n_bins=15)
    edges = [k / 15 for k in range(1, 15)]
    sizes = [0] * 15
    for value in p:
        sizes[sum(e < value for e in edges)] += 1
    sizes = [n for n in sizes if n]
    ranked.append({
        "cases": cases,
        "average_precision": m.average_precision_score(y, p),
        "roc_auc": m.roc_auc_score(y, p),
        "recall_at_0.6": max(r for q, r in zip(precision[:-1], recall[:-1]) if q >= 0.6),
        "brier": m.brier_score_loss(y, p),
        "mae": m.mean_absolute_error([float(v) for v in y], p),
        "reliability": [list(row) for row in zip(sizes, means, shares)],
        "ece": sum(n * abs(a - b) for n, a, b in zip(sizes, means, shares)) / len(p),
    })

t3, a3 = zip(*three)
print(json.dumps({
    "versions": {"sacrebleu": sacrebleu.__version__, "scikit-learn": __import__("sklearn").__version__},
    "pairs": PAIRS,
    "rouge": rouge,
    "bleu": [{"of": c, "bleu": bleu(c)} for c in CORPORA],
    "binary": {"cases": binary, "accuracy": m.accuracy_score(truth, answer), "precision": m.precision_score(truth, answer),
               "recall": m.recall_score(truth, answer), "f1": m.f1_score(truth, answer)},
    "three": {"cases": three, "confusion": m.confusion_matrix(t3, a3).tolist(), "accuracy": m.accuracy_score(t3, a3),
              "macro_f1": m.f1_score(t3, a3, average="macro")},
    "ranked": ranked,
    "poisson": [[k, chi2.ppf(0.025, 2 * k) / 2 if k else 0.0, chi2.ppf(0.975, 2 * k + 2) / 2] for k in (0, 1, 2, 7, 100, 600)],
    "poisson_upper": [[k, chi2.ppf(0.95, 2 * k + 2) / 2] for k in (0, 1, 2, 7, 100, 600)],
    "shares": [[k, n, beta.ppf(0.025, k, n - k + 1) if k else 0.0, beta.ppf(0.975, k + 1, n - k) if k < n else 1.0]
               for k, n in ((0, 10), (10, 10), (3, 10), (98, 100), (0, 1), (1, 1), (400, 1000), (20000, 20000), (7, 20000))],
}, indent=1))
