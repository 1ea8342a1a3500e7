"""
Do intervals hold what they promise?
====================================

Of all 90% intervals nine tenths ought to hold the true value, of all 50% intervals half. Hide cells
whose values are known, and count. That is worth doing on every table whose draws are relied on.
"""

# %%
# Hidden cells of the wine table
# ------------------------------
# A third of the cells is hidden from the imputer. Intervals are those of 100 completed tables.

from sklearn.datasets import load_wine

from sklearn_qavi import QAVIImputer
from sklearn_qavi.datasets import make_missing
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.plotting import CoverageDisplay

X_true = load_wine(as_frame=True).data
X, missing = make_missing(X_true, rate=0.33, random_state=0)
model = TabularVAE(likelihood="student_t", n_decoders=1)
imputer = QAVIImputer(generative_model=model, random_state=0).fit(X)
CoverageDisplay.from_estimator(imputer, X, X_true)

# %%
# The band is where 95% of the points of calibrated intervals would lie, if cells were independent.
# The curve runs along its lower edge: intervals of this one decoder are a little too narrow. More
# decoders, or ``TabularVAE(bootstrap=True)``, add what is uncertain about the decoder itself.

# %%
# Draws that are too sure of themselves
# -------------------------------------
# What it looks like when something is wrong: the same draws with half their spread. Any draws can
# be held against the truth with ``from_draws``, and a display can be drawn on the axes of another.

draws = imputer.sample(X, n=100)
center = draws.mean(axis=0)
display = CoverageDisplay.from_draws(X_true, draws, missing, name="draws")
too_sure = center + 0.5 * (draws - center)
CoverageDisplay.from_draws(X_true, too_sure, missing, name="half the spread", ax=display.ax_)
