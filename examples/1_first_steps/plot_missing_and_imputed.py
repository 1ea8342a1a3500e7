"""
What is missing, and what fills it
==================================

Two pictures to look at whenever a table is imputed: which columns are missing together, before, and
how the imputed values compare with the observed ones, after.
"""

# %%
# Which columns are missing together
# ----------------------------------
# The table on diabetes, as it might come from a clinic: for one patient in four no blood was taken,
# and the older they are the more often; body mass index and blood pressure are missing here and
# there, and so is sex, a column of categories.

import numpy as np
from sklearn.datasets import load_diabetes

from sklearn_qavi.plotting import MissingnessDisplay

X = load_diabetes(as_frame=True, scaled=False).data.drop(columns=["s2", "s3", "s4"])
X = X.rename(columns={"s1": "cholesterol", "s5": "log triglycerides", "s6": "sugar"})
X["sex"] = X["sex"].map({1: "first", 2: "second"})  # the source does not say which is which
blood = ["cholesterol", "log triglycerides", "sugar"]
rng = np.random.default_rng(0)
X.loc[rng.random(len(X)) < 0.25 * X["age"] / X["age"].mean(), blood] = np.nan
for column, share in [("sex", 0.1), ("bmi", 0.2), ("bp", 0.1)]:
    X.loc[rng.random(len(X)) < share, column] = np.nan
MissingnessDisplay.from_table(X)

# %%
# Each line is a pattern, the most frequent on top: the blood values come and go as one.

# %%
# What is filled in
# -----------------
# Twenty completed tables. Observed and imputed values need not have the same distribution: older
# patients miss more, and older patients have more cholesterol. Reasons to look again would be
# values where there cannot be any (``column_types`` rules out a negative weight), or a peak at a
# single value.

from sklearn_qavi import QAVIImputer
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.plotting import DistributionDisplay

model = TabularVAE(likelihood="student_t", n_decoders=1)
positive = dict.fromkeys(["bmi", "bp", "cholesterol", "sugar"], "positive")
imputer = QAVIImputer(generative_model=model, column_types=positive, random_state=0).fit(X)
DistributionDisplay.from_estimator(imputer, X)

# %%
# A reason to look again
# ----------------------
# The same for an imputer that puts the mean into every missing cell. What is computed from such a
# table takes the column to vary less than it does.

from sklearn.impute import SimpleImputer

numbers = X.drop(columns="sex")
DistributionDisplay.from_estimator(
    SimpleImputer().fit(numbers), numbers, columns=["bmi", "cholesterol", "sugar"]
)
