"""
A photograph: what may be behind the scratches
==============================================

A model of small pieces of a photograph completes pieces that it has not seen: several times each,
since a gap leaves more than one picture open. Colors follow what is around the gap, and the spread
of the draws says where they are a guess.
"""

# %%
# Cut a photograph into pieces
# ----------------------------
# A flower out of one of the photographs that come with scikit-learn, at half its size. Its lower
# right is kept aside; all other squares of 16 x 16 pixels, two pixels apart, are there to learn
# from.

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.datasets import load_sample_image

photo = load_sample_image("flower.jpg")[64:384, 144:496] / 255
photo = photo.reshape(160, 2, 176, 2, 3).mean(axis=(1, 3))
corner = photo[80:144, 64:160]  # 4 x 6 pieces

rest = photo.copy()
rest[80:144, 64:160] = np.nan
squares = sliding_window_view(rest, (16, 16), axis=(0, 1))[::2, ::2].reshape(-1, 3, 16, 16)
squares = squares[~np.isnan(squares).any(axis=(1, 2, 3))].transpose(0, 2, 3, 1)


def pieces(image):
    """Cut an image (64, 96, ...) into pieces (24, 16, 16, ...)."""
    return image.reshape(4, 16, 6, 16, -1).swapaxes(1, 2).reshape(24, 16, 16, *image.shape[2:])


def joined(parts):
    """Put pieces (24, 16, 16, ...) together again."""
    return parts.reshape(4, 6, 16, 16, -1).swapaxes(1, 2).reshape(64, 96, *parts.shape[3:])


# %%
# Train on them
# -------------
# Each piece has codes at four resolutions, from two for the whole piece to one for each pixel
# (``decoder_layers``), so that edges can be continued and not only colors. Its pixels are Gaussian,
# with one learned scale for each channel.

import warnings

from sklearn.exceptions import ConvergenceWarning

from sklearn_qavi import QAVIInpainter
from sklearn_qavi.generative import HierarchicalVAE, Training

vae = HierarchicalVAE(
    encoder_layers="16x1,16d2,8x1,8d2,4x1,4d4,1x1",
    decoder_layers="1x2,4m1,4x1,8m4,8x1,16m8",
    width=32,
    widths={16: 16},
    latent_channels=8,
    likelihood="gaussian",
    max_epochs=3,
    training=Training(steps_per_epoch=100, learning_rate=3e-3, validation_fraction=0.01),
)
inpainter = QAVIInpainter(generative_model=vae, data_format="channels_last", random_state=0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # it would still improve
    inpainter.fit(squares)

# %%
# Half of a piece
# ---------------
# One half of every second piece is hidden, and drawn twenty times. ``pixel_noise=False`` shows the
# mean of each pixel at the drawn codes, without the grain of the Gaussians. Colors go on from the
# half that is seen. It does not say where the next petal begins, and draws are vague about that.

from sklearn_qavi.datasets import make_image_masks
from sklearn_qavi.plotting import InpaintingDisplay

truth = pieces(corner)
halves = make_image_masks(12, (16, 16), kind="rotated_half", random_state=0)
drawn_halves = inpainter.sample(truth[::2], 20, mask=halves, pixel_noise=False)

InpaintingDisplay.from_draws(
    truth[:12:2],
    drawn_halves[:, :6],
    halves[:6],
    truth[:12:2],
    mean=drawn_halves[:, :6].mean(axis=0),
    n_draws=6,
    data_format="channels_last",
    missing_color="0.7",
)

# %%
# Scratches across the picture
# ----------------------------
# Now strokes run across the picture. Each piece is completed on its own, from what is left of it,
# and then they are put together again. The spread is widest where strokes meet.

import matplotlib.pyplot as plt

strokes = make_image_masks(
    1,
    (64, 96),
    kind="free_form",
    n_boxes=(1, 1),
    rate_range=(0.15, 0.25),
    stroke_width=(0.02, 0.045),
    random_state=6,
)[0]
draws = inpainter.sample(truth, 20, mask=pieces(strokes), pixel_noise=False)
scratched = np.where(strokes[..., None], 0.7, corner)
pictures = {
    "photograph": corner,
    "scratched": scratched,
    "mean of 20 draws": joined(draws.mean(axis=0)),
    "one draw": joined(draws[0]),
    "another draw": joined(draws[1]),
}
fig, axes = plt.subplots(2, 3, figsize=(8, 4), layout="constrained")
for ax, (name, picture) in zip(axes.flat, pictures.items(), strict=False):
    ax.imshow(picture.clip(0, 1))
    ax.set_title(name, fontsize=10)
spread = axes.flat[5].imshow(joined(draws.std(axis=0).mean(axis=-1)), cmap="viridis", vmin=0)
axes.flat[5].set_title("spread of the draws", fontsize=10)
fig.colorbar(spread, ax=axes.flat[5], label="standard deviation")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])

# %%
# Beside two simple ways
# ----------------------
# A hot deck copies the gap from the twenty squares of the rest of the photograph that are most like
# the piece where it is seen. Interpolation runs straight across the gap, and takes the nearest
# seen pixel where there is no other side; scratches are narrow enough for it, halves are not. The
# score is the CRPS of hidden values from 0 to 1, which is the mean absolute error of a method with
# one answer; less is better. Halves are completed best by the model. Scratches are as well filled
# in by interpolation, which sees across the borders of pieces, and has no spread.

from scipy.interpolate import griddata

from sklearn_qavi.metrics import masked_crps


def hot_deck(parts, masks):
    """Return twenty completions of each piece, copied from the squares nearest to it."""
    out = np.repeat(parts[None], 20, axis=0)
    for i, (part, mask) in enumerate(zip(parts, masks, strict=True)):
        distance = np.square(squares[:, ~mask] - part[~mask]).sum(axis=(1, 2))
        out[:, i, mask] = squares[np.argsort(distance)[:20]][:, mask]
    return out


def interpolated(image, mask):
    """Return an image (H, W, 3) with its missing part filled in linearly."""
    out, seen, gone = image.copy(), np.argwhere(~mask), np.argwhere(mask)
    inside, near = (griddata(seen, image[~mask], gone, method=m) for m in ("linear", "nearest"))
    out[mask] = np.where(np.isnan(inside), near, inside)
    return out


def crps(completed, parts, masks):
    """Return the score of completed pieces (S, n, 16, 16, 3)."""
    hidden = np.broadcast_to(masks[..., None], parts.shape)
    return masked_crps(*(a.reshape(*a.shape[:-3], -1) for a in (parts, completed, hidden)))


across = {
    "halves": np.stack([interpolated(*pair) for pair in zip(truth[::2], halves, strict=True)]),
    "strokes": pieces(interpolated(corner, strokes)),
}
for kind, ours, parts, masks in (
    ("halves", drawn_halves, truth[::2], halves),
    ("strokes", draws, truth, pieces(strokes)),
):
    print(
        f"{kind}: {crps(ours, parts, masks):.3f}, "
        f"hot deck {crps(hot_deck(parts, masks), parts, masks):.3f}, "
        f"interpolation {crps(np.stack([across[kind]] * 2), parts, masks):.3f}"
    )

# %%
# What the three make of the scratches:

copies = hot_deck(truth, pieces(strokes))
fig, axes = plt.subplots(1, 3, figsize=(8, 2.1), layout="constrained")
for ax, name, picture in zip(
    axes,
    ["mean of 20 draws", "hot deck, nearest square", "interpolation"],
    [pictures["mean of 20 draws"], joined(copies[0]), joined(across["strokes"])],
    strict=True,
):
    ax.imshow(picture.clip(0, 1))
    ax.set_title(name, fontsize=10)
    ax.set(xticks=[], yticks=[])
