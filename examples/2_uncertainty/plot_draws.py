"""
Are draws near the truth?
=========================

A filled cell is a guess. :meth:`QAVIImputer.sample <sklearn_qavi.QAVIImputer.sample>` gives many
guesses that are consistent with what was observed in the row, and their spread says how much the
row tells about the cell. Here cells of the iris table are hidden on purpose, so that the draws can
be held against the truth.
"""

# %%
# Hide three tenths of the cells
# ------------------------------
# Many rows lose something, so the model has to learn from incomplete rows as well.

from sklearn.datasets import load_iris

from sklearn_qavi import QAVIImputer
from sklearn_qavi.datasets import make_missing

X = load_iris(as_frame=True).data
X_missing, missing = make_missing(X, rate=0.3, random_state=0)
imputer = QAVIImputer(random_state=0).fit(X_missing)

# %%
# A hundred completed tables
# --------------------------
# Observed cells are the same in all of them; hidden cells differ.

draws = imputer.sample(X_missing, n=100)
print(draws.shape)

# %%
# Each line of the picture is one hidden cell: its draws, their mean, the interval that holds nine
# tenths of them, and the true value. The petals of a flower tell much about each other, so these
# draws lie close together; the width of a sepal is harder to tell, and the draws say so.

from sklearn_qavi.plotting import DrawsDisplay

DrawsDisplay.from_draws(X, draws, missing, random_state=0)

# %%
# Are the intervals right?
# ------------------------
# Nine tenths of the true values ought to lie inside. Over all hidden cells:

from sklearn_qavi.metrics import interval_coverage, masked_crps

print(f"in the 90% interval: {interval_coverage(X, draws, missing):.2f}")
print(f"CRPS: {masked_crps(X, draws, missing):.2f} cm")
