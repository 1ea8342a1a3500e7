"""
A decoder of your own
=====================

Any torch module from codes to pixels, or to columns of a table, can be asked for completions; no
encoder is needed. Here principal components of digits are the decoder.
"""

# %%
# Make the module
# ---------------
# Probabilistic PCA is a linear decoder: a code of standard normals, stretched to the components'
# scales, is turned into an image. A trained network would stand in its place.

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

images = load_digits().images / 16
pca = PCA(n_components=20).fit(images[:1700].reshape(1700, 64))
scale = np.sqrt(pca.explained_variance_ - pca.noise_variance_)

decoder = torch.nn.Linear(20, 64)
with torch.no_grad():
    decoder.weight.copy_(torch.from_numpy(pca.components_.T * scale))
    decoder.bias.copy_(torch.from_numpy(pca.mean_))

# %%
# Ask it
# ------
# `PretrainedDecoder` says what the module's output means: here means of Gaussian pixels whose
# scale is what the components leave over. Nothing is trained.

from sklearn_qavi import QAVIInpainter
from sklearn_qavi.datasets import make_image_masks
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.plotting import InpaintingDisplay

model = PretrainedDecoder(
    decoder,
    "gaussian",
    image_shape=(1, 8, 8),
    likelihood_options={"scale": float(np.sqrt(pca.noise_variance_))},
)
inpainter = QAVIInpainter(generative_model=model, random_state=0).fit()
truth = images[[1703, 1709, 1720, 1736]]
mask = make_image_masks(4, (8, 8), kind="rotated_half", random_state=5)

InpaintingDisplay.from_estimator(
    inpainter,
    truth,
    mask,
    truth=truth,
    n_draws=5,
    mean=True,
    pixel_noise=False,
    cmap="gray_r",
    missing_color="C1",
)

# %%
# The same for a table
# --------------------
# With the number of columns in the place of ``image_shape`` the module is a model of tables, for
# `QAVIImputer`: here for the digits as rows of 64 columns. The answers are the same.

from sklearn_qavi import QAVIImputer

table = PretrainedDecoder(
    decoder, "gaussian", 64, likelihood_options={"scale": float(np.sqrt(pca.noise_variance_))}
)
rows = np.where(mask, np.nan, truth).reshape(4, 64)
imputer = QAVIImputer(generative_model=table, random_state=0).fit(images[:100].reshape(100, 64))
completed = imputer.transform(rows).clip(0, 1)
of_images = inpainter.transform(truth, mask=mask).reshape(4, 64)
print(f"largest difference: {np.abs(completed - of_images).max():.3f} of a range of 1")
