"""Pictures of missing cells and of what fills them, in the style of scikit-learn's Display classes.

Each class is built by a class method, ``from_estimator`` or one named after what it is handed,
which also plots. The numbers behind the picture are attributes, and ``plot`` draws it again, on
axes of your own if you like. Matplotlib is imported when something is plotted, not before.
"""

from ._bounds import BoundTraceDisplay
from ._cell import CellDisplay
from ._coverage import CoverageDisplay
from ._distributions import DistributionDisplay
from ._draws import DrawsDisplay
from ._errors import ExpectedErrorDisplay
from ._inpainting import InpaintingDisplay
from ._missingness import MissingnessDisplay
from ._scores import ScoreCurveDisplay

__all__ = [
    "BoundTraceDisplay",
    "CellDisplay",
    "CoverageDisplay",
    "DistributionDisplay",
    "DrawsDisplay",
    "ExpectedErrorDisplay",
    "InpaintingDisplay",
    "MissingnessDisplay",
    "ScoreCurveDisplay",
]
