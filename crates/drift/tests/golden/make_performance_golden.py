"""Golden values of the performance of classifiers: python make_performance_golden.py OUT

Needs numpy, scipy and scikit-learn. Row by row, without any binning of scores:

- labels: scikit-learn's measures; Wilson intervals by scipy; DeLong's variance from the placements of the scores themselves;
- estimated: confidence-based estimation with c(p) = p + d(p), d the difference of observed share and mean prediction of each bin of
  the calibration curve, numpy.interp between the bins' mean predictions;
- risk: the wealth of the betting confidence sequence at any mean, its limits by brentq, and the Shiryaev-Roberts sums of six stakes.

Scores are drawn, so the file is the same for the same numpy; the values that it was committed with name their versions.
"""

import json
import math
import pathlib
import sys

import numpy as np
import scipy
import sklearn
from scipy import optimize, stats
from sklearn import metrics


def rounded(values):
    """Probabilities with 6 digits, so that the file is small and every reader has the same."""
    return np.round(values, 6)


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def wilson(k, n):
    interval = stats.binomtest(int(k), int(n)).proportion_ci(0.95, method="wilson")
    return [k / n, interval.low, interval.high]


def delong_variance(p, y):
    positives, negatives = p[y == 1], p[y == 0]
    wins = (positives[:, None] > negatives[None, :]) + 0.5 * (positives[:, None] == negatives[None, :])
    return float(np.var(wins.mean(axis=1), ddof=1) / len(positives) + np.var(wins.mean(axis=0), ddof=1) / len(negatives))


def calibration(p, y, bins):
    """Bins by the rule of model-source/churn/profile.py, with numpy's type-7 quantiles."""
    inner = sorted({float(q) for q in np.quantile(p, np.arange(1, bins) / bins)} - {0.0, 1.0})
    where = np.searchsorted(inner, p, side="right")
    limits = [0.0, *inner, 1.0]
    out = []
    for b, (lower, upper) in enumerate(zip(limits, limits[1:])):
        inside = where == b
        out.append(
            {
                "lower": lower,
                "upper": upper,
                "count": int(inside.sum()),
                "predicted": math.fsum(p[inside]) / int(inside.sum()),
                "observed": int(y[inside].sum()) / int(inside.sum()),
            }
        )
    return out


def estimated(p, predicted, curve):
    """Expected measures of a binary model from its scores alone."""
    knots = [b["predicted"] for b in curve]
    c = np.clip(p + np.interp(p, knots, [b["observed"] - b["predicted"] for b in curve]), 0, 1) if curve else p
    yes = predicted == 1
    tp, fn = c[yes].sum(), c[~yes].sum()
    order = np.argsort(p, kind="stable")
    c_sorted = c[order]
    # Scores are distinct, so a row's negatives below are those before it, itself left out.
    below = np.cumsum(1 - c_sorted) - (1 - c_sorted)
    own = (c * (1 - c)).sum()
    pairs = c.sum() * (1 - c).sum() - own
    return {
        "accuracy": float((tp + (1 - c[~yes]).sum()) / len(p)),
        "precision": float(tp / yes.sum()),
        "recall": float(tp / (tp + fn)),
        "f1": float(2 * tp / (yes.sum() + tp + fn)),
        "auc": float((c_sorted * below).sum() / pairs),
        "log_loss": float(-(c * np.log(p) + (1 - c) * np.log1p(-p)).mean()),
        "accuracy_variance_without_curve": float((c * (1 - c)).sum() / len(p) ** 2),
    }


def binary(rng):
    def world(n, shift):
        x = rng.normal(size=n) + shift
        p = rounded(sigmoid(1.8 * x - 0.6))
        assert len(np.unique(p)) == n
        return p, (rng.random(n) < sigmoid(1.2 * x - 0.4)).astype(int)

    reference = world(2000, 0.0)
    curve = calibration(*reference, 10)
    p, y = world(400, 0.4)
    predicted = (p > 0.45).astype(int)
    tp = int((predicted & y).sum())
    losses = -np.log(np.where(y == 1, p, 1 - p))
    return {
        "reference": [reference[0].tolist(), reference[1].tolist()],
        "calibration": curve,
        "rows": [p.tolist(), predicted.tolist(), y.tolist()],
        "labels": {
            "accuracy": wilson((predicted == y).sum(), len(y)),
            "precision": wilson(tp, predicted.sum()),
            "recall": wilson(tp, y.sum()),
            "f1": float(metrics.f1_score(y, predicted)),
            "auc": float(metrics.roc_auc_score(y, p)),
            "auc_variance": delong_variance(p, y),
            "log_loss": float(metrics.log_loss(y, p)),
            "log_loss_error": float(losses.std(ddof=1) / math.sqrt(len(y))),
        },
        "estimated": {"raw": estimated(p, predicted, []), "calibrated": estimated(p, predicted, curve)},
    }


def multiclass(rng):
    n, k = 350, 3
    z = rng.normal(size=(n, k)) * 1.5
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    p = rounded(p)
    p[:, 2] = 1 - p[:, 0] - p[:, 1]
    y = np.array([rng.choice(k, p=row) for row in p])
    predicted = p.argmax(axis=1)
    table = metrics.precision_recall_fscore_support(y, predicted)
    return {
        "rows": [p.tolist(), y.tolist()],
        "labels": {
            "accuracy": float((predicted == y).mean()),
            "precision": table[0].tolist(),
            "recall": table[1].tolist(),
            "f1": table[2].tolist(),
            "macro_f1": float(metrics.f1_score(y, predicted, average="macro")),
            "auc": float(metrics.roc_auc_score(y, p, multi_class="ovr", average="macro")),
            "log_loss": float(metrics.log_loss(y, p)),
        },
        "estimated": {
            "accuracy": float(p.max(axis=1).mean()),
            "precision": [float(p[predicted == c, c].mean()) for c in range(k)],
            "recall": [float(p[predicted == c, c].sum() / p[:, c].sum()) for c in range(k)],
        },
    }


def risk(rng):
    losses = np.concatenate([rounded(rng.random(150) ** 3), (rng.random(250) < 0.35).astype(float)])
    miss, cap = 0.05, 0.5
    stakes, spread, total = [], 0.0, 0.0
    for t, x in enumerate(losses, start=1):
        variance = (0.25 + spread) / t
        stakes.append(min(cap, math.sqrt(2 * math.log(2 / miss) / (variance * t * math.log(t + 1)))))
        spread += (x - (0.5 + total) / t) ** 2
        total += x
    stakes = np.array(stakes)
    needed = math.log(2 / miss)
    lower = optimize.brentq(lambda m: np.log1p(stakes * (losses - m)).sum() - needed, 0, losses.mean())
    upper = optimize.brentq(lambda m: np.log1p(-stakes * (losses - m)).sum() - needed, losses.mean(), 1)
    mean, rows, z = 0.2, 800, 3.09
    centre = (mean + z * z / rows / 2) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(mean * (1 - mean) / rows + z * z / (4 * rows * rows))
    threshold = centre + half + 0.02
    evidence = np.zeros(6)
    for x in losses:
        evidence = (evidence + 1) * (1 + 0.5 / threshold * 0.5 ** np.arange(6) * (x - threshold))
    return {
        "losses": losses.tolist(),
        "source": {"mean": mean, "rows": rows},
        "threshold": threshold,
        "lower": lower,
        "upper": upper,
        "ln_evidence": math.log(evidence.mean()),
    }


def main(out):
    rng = np.random.default_rng(20261128)
    golden = {
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__},
        "binary": binary(rng),
        "multiclass": multiclass(rng),
        "risk": risk(rng),
    }
    pathlib.Path(out).write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
