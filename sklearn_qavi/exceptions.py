"""Errors and warnings of sklearn_qavi; each also derives from scikit-learn's or Python's own."""

from sklearn.exceptions import ConvergenceWarning


class TrainingDivergedError(ValueError, ArithmeticError):
    """Training reached a non-finite loss, so there is no model to impute with.

    Raised by ``fit``. The message names the epoch and what to change.
    """


class InferenceDivergedError(ValueError, ArithmeticError):
    """A posterior or an imputed value is not finite.

    Raised instead of returning a table that holds NaN or infinity; the message names the columns.
    """


class ModelFormatError(ValueError):
    """A saved model is truncated, of a newer version, or does not fit its own description."""


class ExtremeValueWarning(UserWarning):
    """Observed values lie so far out that inference treats them as the far tail."""


class InferenceConvergenceWarning(ConvergenceWarning):
    """Some rows' posteriors had not converged when the iterations ran out."""


class UnreliablePosteriorWarning(UserWarning):
    """Importance weights say that some rows' posteriors miss part of what the decoder allows."""


class NumericTextWarning(UserWarning):
    """A column of text reads as numbers; it is taken as text, unless its type is declared."""
