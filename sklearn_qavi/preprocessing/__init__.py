"""From a user's table or images to numbers with a mask, and back."""

from ._categories import Categories
from ._columns import Column
from ._frames import Frame, as_frame, check_unique_names, is_dataframe, known_container
from ._images import ImageBatch, ImageEncoder, as_array, find_image_shape
from ._reading import COLUMNS
from ._relations import Relations
from ._rows import rows_to_learn_from
from ._table import EncodedTable, TableEncoder

__all__ = [
    "COLUMNS",
    "Categories",
    "Column",
    "EncodedTable",
    "Frame",
    "ImageBatch",
    "ImageEncoder",
    "Relations",
    "TableEncoder",
    "as_array",
    "as_frame",
    "check_unique_names",
    "find_image_shape",
    "is_dataframe",
    "known_container",
    "rows_to_learn_from",
]
