"""
The likelihood score against the number of draws
================================================

The paper compares inference methods by the importance-weighted log likelihood of the missing
features (its equation 12), and plots it against the number S of draws (its Figure 4). Here the same
curve for a table that comes with scikit-learn, beside a score of what a user is given.
"""

# %%
# One decoder, several ways to infer
# ----------------------------------
# Half of the cells of the last fifty wines are hidden. All methods share one trained model.

from sklearn.datasets import load_wine
from sklearn.utils import shuffle

from sklearn_qavi import QAVIImputer
from sklearn_qavi.datasets import make_missing
from sklearn_qavi.generative import TabularVAE

X = shuffle(load_wine().data, random_state=0)
train, test = X[:-50], X[-50:]
_, missing = make_missing(test, rate=0.5, per_row=True, random_state=0)
model = TabularVAE(likelihood="student_t", n_decoders=1, random_state=0).fit(train)

methods = {
    "QAVI, mixture": {"posterior": "mixture"},
    "QAVI, Gaussian": {"posterior": "gaussian"},
    "QAVI, Gaussian, beta = 3": {"posterior": "gaussian", "beta": 3.0},
    "posterior matching": {"posterior": "posterior_matching"},
    "pseudo-Gibbs": {"posterior": "pseudo_gibbs"},
    "fill zeros": {"posterior": "fill_zeros"},
}

# %%
# Two scores
# ----------
# :func:`~sklearn_qavi.metrics.iwae` is the paper's: an estimate of log p(missing) that forgets what
# was observed, and therefore favours wide posteriors, which ``beta`` above 1 gives.
# :func:`~sklearn_qavi.metrics.predictive` is the log density that the draws give to the truth.

sizes = [1, 3, 10, 30, 100, 300, 1000, 3000]
iwae, predictive = {}, {}
for name, options in methods.items():
    imputer = QAVIImputer(generative_model=model, random_state=0, **options).fit(train)
    scores = [imputer.score_missing(test, missing, n_draws=n) for n in sizes]
    iwae[name] = [score["iwae"].mean() for score in scores]
    predictive[name] = [score["predictive"].mean() for score in scores]

# %%
# Every curve of the first score rises towards the same limit, the decoder's own log p(missing), the
# faster the better q covers it. The second has a limit of its own for every method.

import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, curves, title in zip(axes, [iwae, predictive], ["equation 12", "predictive"], strict=True):
    for name, values in curves.items():
        ax.plot(sizes, values, "o-", markersize=4, label=name)
    ax.set(xscale="log", xlabel="draws S", ylabel="nats a row", title=title)
    ax.set_ylim(max(ax.get_ylim()[0], -60), None)
axes[1].legend(frameon=False)
