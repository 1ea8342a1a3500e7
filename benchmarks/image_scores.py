"""How the scores of completed images depend on the number of images.

``normals``: features of two normal distributions at distance d, for which the scores of infinitely
many images are known. ``digits``: scikit-learn's digits with the lower half completed in two ways,
and other digits in their place, in the features of small classifiers. ``frechet``: accuracy and
time beside torchmetrics, if that is installed. Prints numbers, and with
``--out`` saves those of the first two; asserts nothing.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier

from sklearn_qavi.metrics import frechet_distance, p_ids, u_ids

HALF = np.arange(64) >= 32  # the lower half of an 8x8 digit


SCORES = ("frechet", "u_ids", "u_ids_held_out", "p_ids", "p_ids_held_out")


def scored(pairs: list[tuple[Any, Any]], **what: Any) -> dict[str, Any]:
    """Print the means of scores over pairs of sets and their spread, and return them."""
    rows = np.array(
        [
            [frechet_distance(*p)]
            + [score(*p, cv=cv) for score in (u_ids, p_ids) for cv in (None, 10)]
            for p in pairs
        ]
    )
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    name = " ".join(f"{key}={value}" for key, value in what.items())
    numbers = "  ".join(f"{value:8.3f}" for value in mean)
    print(f"{name:48s} {numbers}   (sd {' '.join(f'{v:.3f}' for v in spread)})", flush=True)
    means = dict(zip(SCORES, mean.tolist(), strict=True))
    spreads = dict(zip([f"{key}_sd" for key in SCORES], spread.tolist(), strict=True))
    return {**what, **means, **spreads, "repetitions": len(rows)}


def normals(distance: float) -> Iterator[dict[str, Any]]:
    """Score normal distributions, and print the limits of the scores."""
    limits = norm.cdf(-distance / 2), norm.cdf(-distance / np.sqrt(2))
    print(f"\nnormals at distance {distance}: FD {distance**2}, U-IDS and P-IDS", *limits)
    for n_features in (32, 256):
        for n in (50, 200, 1000, 4000):
            rng = np.random.default_rng(n)
            pairs = []
            for _ in range(8 if n < 1000 else 1):
                real, completed = rng.normal(size=(2, n, n_features))
                completed[:, 0] += distance
                pairs.append((real, completed))
            yield scored(pairs, distance=distance, features=n_features, images=n)


def complete(
    images: NDArray[np.float64], donors: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Fill lower halves with the mean of those of the n images with the most similar upper half."""
    search = NearestNeighbors(n_neighbors=n).fit(donors[:, ~HALF])
    nearest = search.kneighbors(images[:, ~HALF], return_distance=False)
    filled = images.copy()
    filled[:, HALF] = donors[nearest][:, :, HALF].mean(axis=1)
    return filled


def digits() -> Iterator[dict[str, Any]]:
    """Score three ways to complete digits, in features of two small classifiers."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, _ = train_test_split(X / 16, y, test_size=1200, random_state=0)
    for width in (16, 128):
        net = MLPClassifier((width,), max_iter=1000, random_state=0).fit(X_train, y_train)

        def features(images: Any, net: MLPClassifier = net) -> NDArray[np.float64]:
            return np.maximum(images @ net.coefs_[0] + net.intercepts_[0], 0.0)

        for n in (50, 150, 600):
            ways: dict[str, list[tuple[Any, Any]]] = {"other digits": [], "nearest": [], "mean": []}
            for seed in range(8):
                order = np.random.default_rng(seed).permutation(len(X_test))
                real, other = X_test[order[:n]], X_test[order[n : 2 * n]]
                ways["other digits"].append((features(real), features(other)))
                ways["nearest"].append((features(real), features(complete(real, X_train, 1))))
                ways["mean"].append((features(real), features(complete(real, X_train, 20))))
            for way, pairs in ways.items():
                yield scored(pairs, way=way, features=width, images=n)


class _Features(torch.nn.Module):
    """Hands features through."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def frechet() -> None:
    """Print the distance of a set from itself and from another, and seconds, of two libraries."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    def theirs(a: Any, b: Any) -> float:
        metric = FrechetInceptionDistance(feature=_Features(a.shape[1])).set_dtype(torch.float64)
        metric.update(torch.from_numpy(a), real=True)
        metric.update(torch.from_numpy(b), real=False)
        return float(metric.compute())

    for n, n_features, offset in [
        (1000, 64, 0.0),
        (1000, 64, 1e6),
        (50, 512, 0.0),
        (1000, 2048, 0.0),
    ]:
        a, b = np.random.default_rng(0).normal(size=(2, n, n_features)) + offset
        line = f"{n:5d} images {n_features:5d} features, mean {offset:g}:"
        for name, distance in (("ours", frechet_distance), ("torchmetrics", theirs)):
            start = time.perf_counter()
            value = distance(a, 1.2 * (b - offset) + 0.1 + offset)
            seconds = time.perf_counter() - start
            line += f"  {name} {value:.6f}, {distance(a, a):.1e} of itself, {seconds:.2f} s"
        print(line, flush=True)


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=["normals", "digits"])
    parser.add_argument("--distances", nargs="+", type=float, default=[0.0, 1.0])
    parser.add_argument("--out", type=Path, help="file of JSON lines, written anew")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".* images are few for .*")
    print("FD, U-IDS in sample, held out, P-IDS in sample, held out; mean and sd of repetitions")
    records = []
    if "normals" in args.parts:
        for distance in args.distances:
            records += normals(distance)
    if "digits" in args.parts:
        records += digits()
    if args.out:
        args.out.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    if "frechet" in args.parts:
        frechet()


if __name__ == "__main__":
    main()
