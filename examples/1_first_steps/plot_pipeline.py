"""
Impute inside a pipeline
========================

``QAVIImputer`` is a transformer, so it takes the place of any other imputer in a
:class:`~sklearn.pipeline.Pipeline` and is fitted on the training folds only. Where the uncertainty
of the filled cells matters for what comes after, fit the second step once for each completed table.
"""

# %%
# One step of a pipeline
# ----------------------
# A quarter of the cells of the wine table are hidden. The chemistry of a wine is to tell its
# grower.

from sklearn.datasets import load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_qavi import QAVIImputer
from sklearn_qavi.datasets import make_missing
from sklearn_qavi.generative import TabularVAE

X, y = load_wine(return_X_y=True, as_frame=True)
X_missing, missing = make_missing(X, rate=0.25, random_state=0)
X_missing.iloc[:3, :5]

# %%
# These columns are smooth and rows are few, so a Student-t for each column and a single decoder
# will do, and train quickly. The model's parameters can be searched like those of any other step,
# as ``qaviimputer__generative_model__latent_dim``.

imputers = {
    "IterativeImputer": IterativeImputer(max_iter=30, tol=0.01, random_state=0),
    "QAVIImputer": QAVIImputer(
        generative_model=TabularVAE(likelihood="student_t", n_decoders=1),
        random_state=0,
    ),
}
for name, imputer in imputers.items():
    pipe = make_pipeline(StandardScaler(), imputer, LogisticRegression())
    scores = cross_val_score(pipe, X_missing, y, cv=3)
    print(f"{name:<18}{scores.mean():.3f} +- {scores.std():.3f}")

# %%
# The difference is within the spread of the folds: a classifier that has many columns to choose
# from rarely tells imputers apart.

# %%
# Multiple imputation
# -------------------
# How does alcohol go with colour intensity? A single completed table answers as if its filled cells
# had been measured. :meth:`~sklearn_qavi.QAVIImputer.sample` gives many tables. Fit the slope in
# each, then pool by Rubin's rules: the variance of the answer is the mean variance within a table
# plus the variance between tables.

import numpy as np
from scipy.stats import linregress

imputer = imputers["QAVIImputer"].set_output(transform="pandas").fit(X_missing)
tables = imputer.sample(X_missing, n=20)
fits = [linregress(table["color_intensity"], table["alcohol"]) for table in tables]
slopes = np.array([fit.slope for fit in fits])
within = np.mean([fit.stderr**2 for fit in fits])
between = slopes.var(ddof=1)
pooled_error = np.sqrt(within + (1 + 1 / len(tables)) * between)
print(f"pooled slope {slopes.mean():.3f} +- {pooled_error:.3f} % alcohol per unit of colour")

# %%
# The slope that each completed table gives, and the slope of the complete table that we would not
# know otherwise:

import matplotlib.pyplot as plt

truth = linregress(X["color_intensity"], X["alcohol"])
_, ax = plt.subplots(figsize=(7, 2.5), layout="constrained")
ax.plot(slopes, np.zeros_like(slopes), "|", markersize=20, label="one completed table each")
ax.errorbar(
    slopes.mean(),
    0.5,
    xerr=1.96 * pooled_error,
    fmt="o",
    color=plt.rcParams["text.color"],
    label="pooled, 95% interval",
)
ax.axvline(truth.slope, color="C3", label="complete table")
ax.set(xlabel="slope of alcohol on colour intensity", yticks=[], ylim=(-0.7, 1.2))
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
