"""Multiple imputation by query-adaptive variational inference, for scikit-learn."""

from ._imputer import QAVIImputer
from ._inpainter import QAVIInpainter
from ._multiple_imputation import MultipleImputationClassifier, MultipleImputationRegressor

__version__ = "0.1.0.dev0"

__all__ = [
    "MultipleImputationClassifier",
    "MultipleImputationRegressor",
    "QAVIImputer",
    "QAVIInpainter",
    "__version__",
]
