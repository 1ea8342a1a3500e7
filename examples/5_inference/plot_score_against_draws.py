"""
How many draws, and at what cost?
=================================

The paper compares inference methods by the importance-weighted log likelihood of the missing
features (its equation 12), plotted against the number S of draws (its Figure 4) and against what
inference costs (its Figure 8). Here the same curves for a table that comes with scikit-learn.
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
from sklearn_qavi.inference import Gaussian

X = shuffle(load_wine().data, random_state=0)
train, test = X[:-50], X[-50:]
_, missing = make_missing(test, rate=0.5, per_row=True, random_state=0)
model = TabularVAE(likelihood="student_t", n_decoders=1, random_state=0).fit(train)

options = {
    "QAVI, mixture": {"posterior": "mixture"},
    "QAVI, Gaussian": {"posterior": "gaussian"},
    "QAVI, Gaussian, beta = 3": {"posterior": "gaussian", "beta": 3.0},
    "posterior matching": {"posterior": "posterior_matching"},
    "pseudo-Gibbs": {"posterior": "pseudo_gibbs"},
    "fill zeros": {"posterior": "fill_zeros"},
}
methods = {
    name: QAVIImputer(generative_model=model, random_state=0, **chosen).fit(train)
    for name, chosen in options.items()
}

# %%
# Against the number of draws
# ---------------------------
# :func:`~sklearn_qavi.metrics.iwae` is the paper's score: an estimate of log p(missing) that
# forgets what was observed, and therefore favours wide posteriors, which ``beta`` above 1 gives.
# :func:`~sklearn_qavi.metrics.predictive` is the log density that the draws give to the truth.
# Every curve of the first rises towards the same limit, the decoder's own log p(missing), the
# faster the better q covers it. The second has a limit of its own for every method.

import matplotlib.pyplot as plt

from sklearn_qavi.plotting import ScoreCurveDisplay

sizes = [1, 3, 10, 30, 100, 300, 1000]
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, metric in zip(axes, ["iwae", "predictive"], strict=True):
    ScoreCurveDisplay.from_estimators(methods, test, missing, metric=metric, n_draws=sizes, ax=ax)

# %%
# Against decoder evaluations
# ---------------------------
# Each method is stopped after fewer and more steps; nothing is trained again. Methods that ask a
# network once are dashed lines, and a chain of fixed length is a point. ``optimizer="paper"`` is
# the paper's recipe, a hundred draws per step. A Gaussian that was stopped early scores best: it is
# wider, which pays with a decoder that is a little too sure of itself; the bound tells the two
# apart. With ``x="seconds"`` the axis is time on this machine.

shown = ["QAVI, mixture", "QAVI, Gaussian", "posterior matching", "pseudo-Gibbs"]
costly = {name: methods[name] for name in shown}
costly["the paper's recipe, Gaussian"] = QAVIImputer(
    generative_model=model, posterior=Gaussian(optimizer="paper"), random_state=0
).fit(train)
display = ScoreCurveDisplay.from_estimators(
    costly,
    test,
    missing,
    x="evaluations",
    metric="predictive",
    n_draws=300,
    max_iter=[1, 3, 10, 30, 100],
)
