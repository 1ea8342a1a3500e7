"""
A regression with honest intervals
==================================

A regression on an incomplete table can drop the incomplete rows, or fill the cells. Dropping wastes
rows, and misleads if it is no accident which rows are incomplete. Filling once takes guesses for
facts. Multiple imputation fills the table several times with draws, fits the regression to each
table, and pools: its intervals hold what the missing cells leave open.
"""

# %%
# An incomplete table
# -------------------
# The diabetes table has measurements of 442 patients, and how far the disease had gone a year
# later. We regress that on six of them, all in standard deviations. Whether a measurement is
# missing depends on the target, which is never missing: patients who fare badly are seen by other
# doctors.

import numpy as np
from sklearn.datasets import load_diabetes

from sklearn_qavi.datasets import make_missing

table = load_diabetes(as_frame=True).frame[["bmi", "bp", "s3", "s5", "s6", "age", "target"]]
table = (table - table.mean()) / table.std()
table_missing, missing = make_missing(
    table, rate=0.25, mechanism="mar", observed_fraction=0.15, random_state=5
)
X, X_missing, y = (
    table.drop(columns="target"),
    table_missing.drop(columns="target"),
    table["target"],
)
print(X_missing.isna().mean().round(2).to_dict())
print(f"{X_missing.notna().all(axis=1).sum()} of {len(X)} rows are complete")
assert not missing[:, -1].any()

# %%
# Four analyses
# -------------
# Of the complete table, which we would not have otherwise; of the complete rows; of the table
# filled with means; and of 20 tables drawn by an imputer. ``bootstrap=True`` trains its decoders
# on bootstrap samples, so that draws also differ by what the rows leave open about the decoder. The
# target is part of the imputation model: without it, imputed measurements would tell nothing of it.

from sklearn.linear_model import LinearRegression

from sklearn_qavi import MultipleImputationRegressor, QAVIImputer
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.pooling import fit_pooled

model = TabularVAE(likelihood="student_t", bootstrap=True, n_decoders=4)
imputer = QAVIImputer(generative_model=model)
pooled = MultipleImputationRegressor(imputer=imputer, n_draws=20, random_state=0)
pooled.fit(X_missing, y)


def analyse(X, y):
    """Return the analysis of one table; pooling two equal ones leaves it as it is."""
    return fit_pooled(LinearRegression(), [X, X], y)


rows = X_missing.notna().all(axis=1)
analyses = {
    "complete table": analyse(X, y),
    "complete rows": analyse(X_missing[rows], y[rows]),
    "filled with means": analyse(X_missing.fillna(X_missing.mean()), y),
    "20 imputations, pooled": pooled.pooled_,
}
pooled.pooled_.summary().round(3)

# %%
# The last column, ``fmi``, is the fraction of the information on a coefficient that went with the
# missing cells.

import matplotlib.pyplot as plt

_, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
positions = np.arange(X.shape[1])
for k, (name, analysis) in enumerate(analyses.items()):
    lower, upper = (limit[1:] for limit in analysis.interval())  # the intercept comes first
    estimate = analysis.estimate[1:]
    ax.errorbar(
        estimate,
        positions + 0.18 * (k - 1.5),
        xerr=[estimate - lower, upper - estimate],
        fmt="o",
        color=[plt.rcParams["text.color"], "C1", "C2", "C0"][k],
        label=name,
        capsize=2,
        markersize=4,
    )
ax.axvline(0, color=plt.rcParams["grid.color"], zorder=0)
ax.set(xlabel="coefficient, 95% interval", yticks=positions, yticklabels=X.columns)
ax.invert_yaxis()
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)

# %%
# The complete rows were selected by the target, and lose the effect of ``bmi`` altogether. Filled
# with means, imputed values count as measurements, and the intervals are too short for what is
# known. The pooled ones are the wider the more of a coefficient's information is missing. How often
# do they hold the estimate of the complete table?

truth = analyses["complete table"].estimate[1:]
for name, analysis in analyses.items():
    lower, upper = (limit[1:] for limit in analysis.interval())
    print(f"{name:<24}{((lower <= truth) & (truth <= upper)).sum()} of {len(truth)}")

# %%
# New patients
# ------------
# The fitted estimator predicts incomplete rows as well. The more the observed cells leave open, the
# wider the interval.

new = X.iloc[[0, 0, 0]].copy()
new.iloc[1, new.columns.get_loc("s6")] = np.nan
new.iloc[2, [new.columns.get_loc(c) for c in ("bmi", "s5")]] = np.nan
lower, upper = pooled.predict_interval(new, level=0.9)
patterns = ["all measured", "s6 missing", "bmi and s5 missing"]
for name, low, high in zip(patterns, lower, upper, strict=True):
    print(f"{name:<20}{low:6.2f} to {high:.2f}")
