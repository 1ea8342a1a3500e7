"""Draw README's picture: intervals of cells that were hidden, and what they held.

``python docs/make_picture.py`` writes ``docs/_static/intervals.png`` in half a minute of one core.
"""

from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine

from sklearn_qavi import QAVIImputer
from sklearn_qavi.datasets import make_missing

X = load_wine(as_frame=True).data
X_missing, missing = make_missing(X, rate=0.3, random_state=0)
imputer = QAVIImputer(random_state=0).set_output(transform="pandas").fit(X_missing)
middle = imputer.transform(X_missing)
low, high = imputer.predict_interval(X_missing, level=0.9)
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for ax, column in zip(axes, ["flavanoids", "alcohol", "ash"], strict=True):
    hidden = missing[:, X.columns.get_loc(column)]
    truth, center = X[column][hidden], middle[column][hidden]
    lower, upper = low[column][hidden], high[column][hidden]
    inside = (lower <= truth) & (truth <= upper)
    ax.vlines(center, lower, upper, color="0.75")
    ax.scatter(center[inside], truth[inside], s=9, color="C0", zorder=2)
    ax.scatter(center[~inside], truth[~inside], s=9, color="C1", zorder=2)
    ax.set_title(f"{column}: {inside.sum()} of {hidden.sum()} inside", fontsize=10)
    ax.set_xlabel("imputed")
axes[0].set_ylabel("90% interval, hidden value")
figure.savefig(Path(__file__).parent / "_static" / "intervals.png", dpi=90)
