"""
Has the fit of each row settled?
================================

Each incomplete row has a posterior of its own, which climbs a bound on the log probability of what
was observed in the row. ``infer(X, trace=True)`` keeps that bound after each step.
"""

# %%
# Eight rows
# ----------
# Half of the cells of each of forty biopsies of the breast cancer table are hidden. The model is
# trained once and handed to both imputers.

from sklearn.datasets import load_breast_cancer

from sklearn_qavi import QAVIImputer
from sklearn_qavi.datasets import make_missing
from sklearn_qavi.generative import TabularVAE

X = load_breast_cancer(as_frame=True).data
model = TabularVAE(likelihood="student_t", n_decoders=1, random_state=0).fit(X)
X_missing, _ = make_missing(X[:40], rate=0.5, per_row=True, random_state=0)
rows = range(8)

# %%
# A Gaussian
# ----------
# Shown is what each row still had to gain. Newton steps are few: they start from a guess that is
# good already, climb until a step gains little, and then average over other sets of points, where
# the bound moves by the noise of the points and no longer upwards.

import warnings

from sklearn_qavi.exceptions import InferenceConvergenceWarning
from sklearn_qavi.plotting import BoundTraceDisplay

gaussian = QAVIImputer(generative_model=model, random_state=0).fit(X)
BoundTraceDisplay.from_estimator(gaussian, X_missing, rows=rows)

# %%
# A mixture, cut short
# --------------------
# A mixture of five Gaussians climbs by smaller steps, and stops row by row. With too small a
# ``max_iter`` rows end while they still rise; crosses mark them, and a warning counts them.

mixture = QAVIImputer(generative_model=model, posterior="mixture", max_iter=120, random_state=0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", InferenceConvergenceWarning)
    BoundTraceDisplay.from_estimator(mixture.fit(X), X_missing, rows=rows)
