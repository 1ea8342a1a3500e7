"""
What may be in a cell
=====================

An imputer that returns one value keeps quiet about how sure it is. Here are the draws of single
cells with their density: a number that the rest of the row tells well, one with two explanations,
and a category.
"""

# %%
# Cells that are hidden on purpose
# --------------------------------
# Three tenths of the cells of the iris table, and the species of some flowers, so that the draws
# can be held against the truth.

from sklearn.datasets import load_iris

from sklearn_qavi import QAVIImputer
from sklearn_qavi.datasets import make_missing
from sklearn_qavi.generative import TabularVAE

iris = load_iris(as_frame=True)
X_true = iris.data.assign(species=iris.target_names[iris.target])
_, missing = make_missing(iris.data, rate=0.3, random_state=0)
X = X_true.copy()
X.iloc[:, :4] = X.iloc[:, :4].mask(missing)
X.loc[::3, "species"] = None
model = TabularVAE(likelihood="student_t", n_decoders=1)
imputer = QAVIImputer(generative_model=model, random_state=0).fit(X)

# %%
# One flower, one number
# ----------------------
# The ticks are a hundred of the thousand draws, and the bar holds nine tenths of them. The length
# of a petal is told rather well by the rest of the flower.

from sklearn_qavi.plotting import CellDisplay


def show(row, column):
    """Plot a cell with its true value."""
    truth = X_true[column].iloc[row]
    return CellDisplay.from_estimator(imputer, X, row=row, column=column, truth=truth)


show(row=104, column="petal length (cm)")

# %%
# Two explanations
# ----------------
# Of this flower little was measured, and the species is missing as well. It may be a setosa with
# short petals or one of the others: the density has two peaks, and its mean lies where there is
# hardly a flower.

show(row=57, column="petal length (cm)")

# %%
# A category
# ----------
# The same flower's species. Bars are the shares of the draws; :meth:`category_probabilities
# <sklearn_qavi.QAVIImputer.category_probabilities>` gives them for a whole table.

show(row=57, column="species")
