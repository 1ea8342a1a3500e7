"""Multiple imputation by query-adaptive variational inference, for scikit-learn."""

from ._imputer import QAVIImputer
from ._inpainter import QAVIInpainter

__version__ = "0.1.0"

__all__ = ["QAVIImputer", "QAVIInpainter", "__version__"]
