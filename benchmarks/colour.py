"""Small colour images with missing parts: two models of ours beside simple ways to fill them.

Emoji of 32 x 32 pixels out of a font, of which no variant of a test image was seen in training.
For each kind of mask and method: CRPS and energy score of the hidden pixels, whole and channel by
channel, RMSE of the mean of the draws, and the Fréchet distance of completed from true images. See
benchmarks/README.md. Prints and saves numbers, asserts nothing.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import append_record, machine, read_records
from _emoji import FONT, Split, group_split, load_emoji, one_of_each
from _image_rivals import N_DRAWS, RIVALS, complete
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from sklearn_qavi import QAVIInpainter, __version__
from sklearn_qavi.datasets import make_image_masks
from sklearn_qavi.generative import HierarchicalVAE, Training, WideResNetVAE
from sklearn_qavi.metrics import energy_score, frechet_distance, masked_crps, masked_rmse

Images = NDArray[np.float64]
Masks = NDArray[np.bool_]

SIZE, TEST_SHARE, VALIDATION_SHARE = 32, 0.2, 0.1
MASKS: dict[str, dict[str, Any]] = {
    "random_patches": {},
    "rotated_half": {},
    "free_form": {"rate_range": (0.2, 0.5)},
}
CHANNELS = ("red", "green", "blue")
N_FEATURES = 100  # components of the training images that Fréchet distances are computed in
OURS = {  # model, and with pixel noise or without
    "qavi": ("wide_resnet", True),
    "qavi_means": ("wide_resnet", False),
    "hierarchical": ("hierarchical", True),
    "hierarchical_means": ("hierarchical", False),
}
HIERARCHICAL: dict[str, Any] = {  # the preset of digits with the likelihood of colour images
    "preset": "mnist",
    "likelihood": "logistic_mixture",
    "likelihood_options": {"n_components": 2},
    "training": Training(learning_rate=2e-3, steps_per_epoch=100),
}
QUICK: dict[str, dict[str, Any]] = {
    "wide_resnet": {"n_decoders": 1, "width": 4, "latent_dim": 8},
    "hierarchical": {"width": 8, "widths": {}},
}


def load(args: argparse.Namespace) -> tuple[Images, Images]:
    """Return images to learn from and one of each group of those to complete.

    With ``--validation`` the latter are cut from the training images, to choose settings on.
    """
    images, groups = load_emoji(args.font, SIZE)
    split = group_split(images, groups, TEST_SHARE, args.seed)
    if args.validation:
        split = group_split(split.train, split.train_groups, VALIDATION_SHARE, args.seed + 1)
    return _few(split, 300 if args.quick else len(split.train), args)


def _few(split: Split, n_train: int, args: argparse.Namespace) -> tuple[Images, Images]:
    chosen = one_of_each(split.test_groups, args.test_images, args.seed)
    return split.train[:n_train], split.test[chosen]


def scores_of_draws(draws: Images, truth: Images, masks: Masks, features: PCA) -> dict[str, Any]:
    """Return mean scores of the missing pixels of draws (S, n, H, W, C).

    One answer is scored as a distribution of no width. The Fréchet distance is the mean over the
    draws, each of which is as many images as there are true ones.
    """
    hidden = np.broadcast_to(masks[..., None], truth.shape)
    out = _scores(draws, truth, hidden)
    for c, channel in enumerate(CHANNELS):
        of_channel = _scores(draws[..., c], truth[..., c], masks)
        out |= {f"{key}_{channel}": value for key, value in of_channel.items()}
    real = features.transform(_rows(truth))
    distances = [frechet_distance(real, features.transform(_rows(draw))) for draw in draws]
    return {**out, "frechet": float(np.mean(distances))}


def _scores(draws: Images, truth: Images, hidden: Masks) -> dict[str, float]:
    if len(draws) == 1:
        draws = np.repeat(draws, 2, axis=0)
    x, missing, many = _rows(truth), _rows(hidden), draws.reshape(*draws.shape[:2], -1)
    return {
        "crps": float(masked_crps(x, many, missing)),
        "energy": float(energy_score(x, many, missing)),
        "rmse": float(masked_rmse(x, many.mean(axis=0), missing)),
    }


def _rows(images: NDArray[Any]) -> NDArray[Any]:
    return images.reshape(len(images), -1)


def folder(model: str, args: argparse.Namespace) -> Path:
    """Return where a model is kept."""
    return Path(args.model if model == "wide_resnet" else args.hierarchical_model)


def untrained(model: str, args: argparse.Namespace) -> WideResNetVAE | HierarchicalVAE:
    """Return the default model, or a hierarchical one that a CPU can train."""
    common = {"random_state": args.seed, "verbose": 1, "device": "cpu"}
    if model == "wide_resnet":
        training = Training(steps_per_epoch=args.steps_per_epoch)
        vae = WideResNetVAE(max_epochs=args.max_epochs, training=training, **common)
    else:
        epochs = args.hierarchical_epochs
        vae = HierarchicalVAE(**HIERARCHICAL, max_epochs=epochs, **common)
    if args.quick:
        vae.set_params(**QUICK[model], max_epochs=1, training=Training(steps_per_epoch=5))
    return vae


def trained(
    model: str, train: Images, args: argparse.Namespace
) -> tuple[QAVIInpainter, dict[str, Any]]:
    """Return an inpainter of a model, trained or from its folder, and what training took."""
    kept = folder(model, args)
    vae = untrained(model, args)
    if (kept / "config.json").exists():
        vae, about = type(vae).load(kept), {}
    else:
        start = time.process_time()
        vae.fit(train.transpose(0, 3, 1, 2))
        about = {"train_seconds": time.process_time() - start}
        vae.save(kept)
    about["epochs"] = [len(run) for run in vae.history_]
    if model == "wide_resnet":
        about["beta"] = vae.inference_beta_
        about["validation_crps"] = [[h["valid_crps"] for h in run] for run in vae.history_]
    else:
        about["validation_loss"] = [[h["valid_loss"] for h in run] for run in vae.history_]
    given = {"generative_model": vae, "data_format": "channels_last", "device": "cpu"}
    inpainter = QAVIInpainter(**given, max_iter=args.max_iter, random_state=args.seed)
    return inpainter.fit(), about


def answers(
    name: str, inpainter: QAVIInpainter | None, train: Images, test: Images, masks: Masks, seed: int
) -> Images | None:
    """Return the draws of a method; None if it is not installed."""
    if inpainter is None:
        return complete(name, train, test, masks, seed)
    draws = inpainter.sample(test, N_DRAWS, mask=masks, pixel_noise=OURS[name][1])
    return np.asarray(draws)


def run(args: argparse.Namespace) -> None:
    """Score what the file does not hold yet, method by method."""
    train, test = load(args)
    features = PCA(min(N_FEATURES, len(train) - 1), random_state=0).fit(_rows(train))
    for name in args.methods:
        asked = [question(kind, name, args) for kind in args.masks]
        done = read_records(args.out)
        left = [q for q in asked if not any(known(record, q) for record in done)]
        ours = bool(left) and name in OURS
        inpainter, about = trained(OURS[name][0], train, args) if ours else (None, {})
        for one in left:
            kind = one["mask"]
            masks = make_image_masks(
                len(test), (SIZE, SIZE), kind=kind, random_state=args.seed, **MASKS[kind]
            )
            start = time.process_time()
            draws = answers(name, inpainter, train, test, masks, args.seed)
            seconds = time.process_time() - start
            if draws is None:
                print(f"{name} is not installed.")
                break
            scores = scores_of_draws(draws, test, masks, features)
            scores["seconds_image"] = seconds / len(test)
            about |= {"n_train": len(train), "version": __version__, **machine()}
            append_record(args.out, {**one, **scores, **about})
            print(f"{kind}, {name}: CRPS {scores['crps']:.4f}", flush=True)
            if args.pictures is not None:
                save_picture(args.pictures / f"{kind}-{name}.png", test, masks, draws)


def question(kind: str, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return what makes a record the answer to a question."""
    return {
        **{"mask": kind, "method": name, "test_images": args.test_images, "seed": args.seed},
        **{"validation": args.validation, "quick": args.quick},
        "model": str(folder(OURS[name][0], args)) if name in OURS else None,
        "max_iter": args.max_iter if name in OURS else None,
    }


def known(record: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Return whether a record was made with exactly these settings."""
    return all(record.get(key) == value for key, value in asked.items())


def save_picture(path: Path, test: Images, masks: Masks, draws: Images, n: int = 16) -> None:
    """Save truth, what is visible, the mean and five draws of the first images, in columns."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    seen = np.where(masks[..., None], 0.7, test)
    lines = np.stack([test, seen, draws.mean(axis=0), *draws[:5]])[:, :n]
    page = np.pad(lines, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=0.5)
    rows, columns, height, width, _ = page.shape
    page = page.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    picture = Image.fromarray((255 * page).round().astype(np.uint8))
    picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).save(path)


COLUMNS = {  # key of a record -> heading and format
    "crps": ("CRPS", ".4f"),
    **{f"crps_{channel}": (channel, ".4f") for channel in CHANNELS},
    "energy": ("energy score", ".2f"),
    "rmse": ("RMSE", ".4f"),
    "frechet": ("Fréchet", ".2f"),
    "seconds_image": ("s per image", ".3f"),
}


def summary(args: argparse.Namespace) -> str:
    """Return a Markdown table for each kind of mask."""
    records, lines = read_records(args.out), []
    headings = [heading for heading, _ in COLUMNS.values()]
    for kind in args.masks:
        lines += ["", f"**{kind}**", "", "| method | " + " | ".join(headings) + " |"]
        lines.append("|---" * (len(headings) + 1) + "|")
        for name in args.methods:
            found = [r for r in records if known(r, question(kind, name, args))]
            if found:
                cells = [format(found[-1][key], style) for key, (_, style) in COLUMNS.items()]
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    methods = (*OURS, *RIVALS)
    parser.add_argument("--font", type=Path, default=FONT)
    parser.add_argument("--model", type=Path, help="folder to load the VAE from, or to keep it in")
    parser.add_argument("--hierarchical-model", type=Path, help="the same of the hierarchical one")
    parser.add_argument("--masks", nargs="+", choices=MASKS, default=list(MASKS))
    parser.add_argument("--methods", nargs="+", choices=methods, default=list(methods))
    parser.add_argument("--test-images", type=int, default=100)
    parser.add_argument(
        "--validation", action="store_true", help="score training images, to choose settings on"
    )
    parser.add_argument("--max-epochs", type=int, default=100, help="of a decoder")
    parser.add_argument("--steps-per-epoch", type=int, help="default: the model's own")
    parser.add_argument("--hierarchical-epochs", type=int, default=40, help="of 100 steps")
    parser.add_argument("--max-iter", type=int, help="steps of inference; default: its own")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few images, little of everything")
    parser.add_argument("--out", type=Path, default=Path("colour.jsonl"))
    args = parser.parse_args()
    kind = ("_quick" if args.quick else "") + ("_validation" if args.validation else "")
    args.model = args.model or Path(f"emoji_vae{kind}")
    args.hierarchical_model = args.hierarchical_model or Path(f"emoji_hierarchical{kind}")
    if args.quick:
        args.test_images = 4
    return args


def main() -> None:
    """Run what the file does not hold yet, print the summary."""
    args = parse_args()
    run(args)
    print(summary(args))


if __name__ == "__main__":
    main()
