"""
Half of a digit, and what the other half may be
===============================================

Half of an image leaves more than one completion open: the upper half of an eight may as well be
that of a nine. Here a small variational autoencoder learns digits, half of each new digit is
hidden, and draws of two posteriors show what they take to be possible.
"""

# %%
# Train on whole digits
# ---------------------
# The digits that come with scikit-learn have 8 x 8 pixels, hardly enough for the eye or for a
# network that halves its resolution; they are spread to 16 x 16. A network this small is trained in
# seconds. Its Gaussian pixels share one learned scale.

import warnings

from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from sklearn_qavi import QAVIInpainter
from sklearn_qavi.generative import Training, WideResNetVAE

digits = load_digits()
images = zoom(digits.images / 16, (1, 2, 2), grid_mode=True, mode="nearest").clip(0, 1)
vae = WideResNetVAE(
    likelihood="gaussian",
    n_decoders=1,
    width=16,
    max_epochs=10,
    training=Training(kl_warmup=0),
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # it would still improve
    gaussian = QAVIInpainter(generative_model=vae, beta=6, random_state=0).fit(images[:1700])

# %%
# Hide a half
# -----------
# What lies on one side of a line through the centre is missing, at a random angle. None of these
# digits was seen in training. One has a half that tells the digit; the others were chosen because
# theirs does not. ``beta=6`` gives the prior more weight than Bayes' rule does, because a decoder
# that takes pixels for independent is too sure of them.

from sklearn_qavi.datasets import make_image_masks
from sklearn_qavi.plotting import InpaintingDisplay

chosen = [3, 5, 9, 26, 29, 37]
truth, labels = images[1700:][chosen], digits.target[1700:][chosen]
mask = make_image_masks(40, (16, 16), kind="rotated_half", random_state=3)[chosen]


def show(draws):
    """Plot truth, missing part, the first draws and the mean of all, as ink on paper."""
    InpaintingDisplay.from_draws(
        truth,
        draws,
        mask,
        truth,
        mean=draws.mean(axis=0),
        n_draws=7,
        cmap="gray_r",
        missing_color="C1",
    )


# with ``pixel_noise=False`` a draw is the decoder's mean at a drawn code, without the noise that
# pixels have besides: right for the eye, too sure of each pixel for a score
draws = gaussian.sample(truth, 200, mask=mask, pixel_noise=False)
show(draws)

# %%
# Several explanations
# --------------------
# A mixture of five Gaussians can keep explanations apart where one Gaussian has to choose, or to
# cover what lies between. The decoder is the same, and is not trained again.

mixture = QAVIInpainter(
    generative_model=gaussian.generative_model_,
    posterior="mixture",
    beta=6,
    max_iter=480,
    random_state=0,
).fit()
mixture_draws = mixture.sample(truth, 200, mask=mask, pixel_noise=False)
show(mixture_draws)

# %%
# Which digits are they?
# ----------------------
# A classifier of whole digits reads all two hundred draws of each image. Dots are the true digits;
# dark cells beside them are other digits that the visible half could belong to. The fifth image is
# a warning: hardly a draw of either posterior is read as the three that it is.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.neighbors import KNeighborsClassifier

classifier = KNeighborsClassifier().fit(images[:1700].reshape(1700, -1), digits.target[:1700])


def shares(draws):
    """Return the share (n_images, 10) of the draws of each image that are read as each digit."""
    read = classifier.predict(draws.reshape(-1, 256)).reshape(draws.shape[:2])
    return np.stack([(read == digit).mean(axis=0) for digit in range(10)], axis=1)


fig, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
for ax, name, completed in zip(axes, ["Gaussian", "mixture"], [draws, mixture_draws], strict=True):
    picture = ax.imshow(shares(completed), cmap="Blues", vmin=0, vmax=1)
    ax.plot(labels, range(len(labels)), "o", color="C1", markersize=5)
    ax.set(title=name, xlabel="digit read", xticks=range(10))
    ax.set_yticks(range(len(labels)), [f"a {label}" for label in labels])
fig.colorbar(picture, ax=axes, label="share of draws")

# %%
# How much a classifier can still read
# ------------------------------------
# The paper's Figure 7 asks how many images a classifier reads right once they are completed. Here
# that is all 97 new digits, by two posteriors, by the encoder that takes missing pixels for black,
# and with nothing but black in the missing parts. The line is what the classifier reads right of
# whole images.

missing = make_image_masks(97, (16, 16), kind="rotated_half", random_state=0)
rest, digit = images[1700:], digits.target[1700:]
filled = QAVIInpainter(generative_model=gaussian.generative_model_, posterior="fill_zeros").fit()
completed = {
    "missing part in black": np.where(missing, 0, rest),
    "fill zeros": filled.transform(rest, mask=missing),
    "Gaussian": gaussian.transform(rest, mask=missing),
    "mixture": mixture.transform(rest, mask=missing),
}


def accuracy(whole):
    """Return the share of images (n, 16, 16) that are read as the digit they are."""
    return classifier.score(whole.reshape(len(whole), -1), digit)


fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.bar(list(completed), [accuracy(whole) for whole in completed.values()], width=0.5)
ax.axhline(accuracy(rest), color="C3", linestyle="--", label="whole images")
ax.set(ylabel="share read right", ylim=(0, 1.1))
ax.legend(frameon=False)
