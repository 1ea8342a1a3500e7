"""
Two missing values under each posterior
=======================================

Two features of a row are hidden, and each posterior says where they may be. The decoder is the same
throughout, so there is a right answer: a mixture of a hundred Gaussians, fitted for long, stands in
for it (the paper's Figure 3). What a family cannot express is lost: a Gaussian over the code covers
one explanation, a posterior over the features leaves out how they go together.
"""

# %%
# One model, many posteriors
# --------------------------
# The chemical analyses of 178 wines, with a decoder of continuous densities. The model is trained
# once; an imputer that is given a trained model does not train it again.

import numpy as np
from sklearn.datasets import load_wine

from sklearn_qavi import QAVIImputer
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.inference import Adam, Mixture

X = load_wine(as_frame=True).data[["alcohol", "flavanoids", "color_intensity", "proline"]]
hidden = ["flavanoids", "color_intensity"]
model = TabularVAE(likelihood="student_t", n_decoders=1, latent_dim=4, random_state=0).fit(X)

long = Adam(max_iter=240, n_draws=2, window=24, learning_rate=0.1, min_learning_rate=0.02, tol=0.01)
posteriors = {
    "Gaussian": {"posterior": "gaussian"},
    "flow": {"posterior": "flow"},
    "mixture of 5": {"posterior": "mixture"},
    "features": {"posterior": "feature"},
    "Gaussian, resampled": {"posterior": "gaussian", "importance_resampling": True},
    "mixture of 100, long": {
        "posterior": Mixture(n_components=100, optimizer=long),
    },
}
imputers = {
    name: QAVIImputer(generative_model=model, random_state=0, **options).fit(X)
    for name, options in posteriors.items()
}

# %%
# Two rows
# --------
# Alcohol and proline are all that is known of them. Neither wine is a usual one in what is hidden.

rows = X.iloc[[98, 61]]
X_missing = rows.copy()
X_missing[hidden] = np.nan
draws, bounds = {}, {}
for name, imputer in imputers.items():
    draws[name] = np.stack(imputer.sample(X_missing, n=1000))[:, :, [1, 2]]
    bounds[name] = imputer.infer(X_missing).bound

# %%
# Densities of a thousand draws
# -----------------------------
# Contours hold 50% and 90% of the draws; the cross is the truth. The bound on log p(observed), in
# nats, stands above each panel, where the posterior is one over the code: the larger, the closer.
# The features' posterior is a product of two, and has no corner; resampling brings the Gaussian
# nearer to the long mixture.

import matplotlib.pyplot as plt
from scipy.stats import gaussian_kde


def contours(ax, points):
    """Draw the regions of highest density that hold 50% and 90% of the points."""
    kde = gaussian_kde(points.T)
    low, high = X[hidden].min(), X[hidden].max()
    grid = np.meshgrid(*[np.linspace(low.iloc[k], high.iloc[k], 80) for k in range(2)])
    density = kde(np.stack([g.ravel() for g in grid])).reshape(80, 80)
    levels = np.quantile(kde(points.T), [0.1, 0.5])
    ax.contourf(*grid, density, levels=[*levels, density.max()], cmap="Blues", extend="neither")
    ax.contour(*grid, density, levels=levels, colors="C0", linewidths=0.8)


fig, axes = plt.subplots(2, 6, figsize=(13, 5), sharex=True, sharey=True, layout="constrained")
for i in range(2):
    for ax, (name, points) in zip(axes[i], draws.items(), strict=True):
        contours(ax, points[:, i])
        ax.plot(*rows[hidden].iloc[i], "r+", markersize=12, markeredgewidth=2)
        bound = "" if name == "features" else f"\n{bounds[name][i]:.2f}"
        ax.set_title(f"{name}{bound}", fontsize=9)
    axes[i, 0].set_ylabel("color intensity")
for ax in axes[1]:
    ax.set_xlabel("flavanoids")
