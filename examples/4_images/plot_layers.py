"""
A hierarchical model: completions from coarse to fine
=====================================================

A decoder with codes at several layers draws an image as one would sketch it: coarse
features first, then finer ones. Here one learns digits in seconds, completes digits
with a missing part, and shows what each layer holds.
"""

# %%
# Train on whole digits
# ---------------------
# The digits that come with scikit-learn are spread to 16 x 16 pixels. ``decoder_layers`` says where
# the codes are, from coarse to fine: two for the image as a whole (``1x2``), then maps of codes of
# 2 x 2, 4 x 4 and 16 x 16 positions, each of which takes up the one before it (``2m1``). The
# encoder reads the image in the opposite direction.

import warnings

from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from sklearn_qavi import QAVIInpainter
from sklearn_qavi.generative import HierarchicalVAE, Training

digits = load_digits()
images = zoom(digits.images / 16, (1, 2, 2), grid_mode=True, mode="nearest").clip(0, 1)
vae = HierarchicalVAE(
    encoder_layers="16x1,16d2,8x1,8d2,4x1,4d2,2x1,2d2,1x1",
    decoder_layers="1x2,2m1,4m2,4x1,16m4",
    width=32,
    widths={16: 16},
    latent_channels=8,
    likelihood="gaussian",
    max_epochs=7,
    training=Training(steps_per_epoch=53, learning_rate=3e-3),
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # it would still improve
    inpainter = QAVIInpainter(generative_model=vae, random_state=0).fit(images[:1700])

# %%
# Complete what is missing
# ------------------------
# A box hides a part of each of six digits that were not in training. Each digit is inferred on its
# own: a posterior over the codes of all layers, which follows the encoder where the image is
# seen and the prior where it is missing. ``pixel_noise=False`` shows the mean of each pixel at the
# drawn codes, without the grain of the likelihood.

import numpy as np

from sklearn_qavi.plotting import InpaintingDisplay

chosen = [0, 3, 9, 20, 26, 36]
truth = images[1700:][chosen]
mask = np.zeros(truth.shape, dtype=bool)
for missing, (top, left) in zip(
    mask, [(7, 6), (0, 2), (4, 1), (8, 2), (7, 5), (0, 2)], strict=True
):
    missing[top : top + 8, left : left + 9] = True

InpaintingDisplay.from_estimator(
    inpainter,
    truth,
    mask,
    truth=truth,
    n_draws=7,
    mean=True,
    pixel_noise=False,
    cmap="gray_r",
    missing_color="C1",
)

# %%
# What the layers hold
# --------------------
# The codes of a whole digit are found by the same inference, with nothing missing. Then only those
# of the coarsest layers are kept and all others drawn from the prior, for more and more layers. The
# codes of 4 x 4 positions say where there is ink, those of 16 x 16 how the strokes run. The
# coarsest ones hold next to nothing: a training as short as this does without them.

import matplotlib.pyplot as plt
import torch

network = inpainter.generative_model_.decoders_[0]
posterior = inpainter.infer(truth).results[0].posterior
codes = posterior.sample(1, seed=0)[0]  # in units of the prior, one layer after the other
ends = np.cumsum([0, *network.layer_sizes])[[0, 2, 3, 5, 6]]  # two layers at 1 x 1 and at 4 x 4
names = ["no layer", "1 x 1", "and 2 x 2", "and 4 x 4", "and 16 x 16"]

fig, axes = plt.subplots(6, 6, figsize=(7, 7.3), layout="constrained")
for column, (name, end) in enumerate(zip(names, ends, strict=True), start=1):
    drawn = torch.randn(codes.shape, generator=torch.Generator().manual_seed(1))
    drawn[:, :end] = codes[:, :end]
    with torch.no_grad():
        means = network.likelihood.mean(network.decode(drawn)).reshape(-1, 16, 16)
    axes[0, column].set_title(name, fontsize=10)
    for ax, mean in zip(axes[:, column], means, strict=True):
        ax.imshow(mean, cmap="gray_r", vmin=0, vmax=1)
axes[0, 0].set_title("digit", fontsize=10)
for ax, image in zip(axes[:, 0], truth, strict=True):
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])

# %%
# How sure is it of each pixel?
# -----------------------------
# The spread of many draws is wide where the missing part leaves something open, and none where the
# image is seen.

draws = inpainter.sample(truth, 64, mask=mask, pixel_noise=False)
fig, axes = plt.subplots(2, 6, figsize=(8, 2.9), layout="constrained")
for column, (image, hidden, spread) in enumerate(zip(truth, mask, draws.std(axis=0), strict=True)):
    axes[0, column].imshow(np.where(hidden, np.nan, image), cmap="gray_r", vmin=0, vmax=1)
    axes[0, column].set_facecolor("C1")
    picture = axes[1, column].imshow(spread, cmap="viridis", vmin=0, vmax=0.4)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("seen")
axes[1, 0].set_ylabel("spread")
fig.colorbar(picture, ax=axes[1], label="standard deviation")
