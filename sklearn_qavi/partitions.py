"""Complete tables that do not fit into memory, part by part: Parquet files and Dask dataframes.

A row's draws are keyed by its position in the whole table, so the parts may be cut anywhere.
"""

import copy
import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from ._checks import plain
from ._files import ensure_file, write_whole

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pyarrow as pa

__all__ = ["complete_dask", "complete_parquet"]

IMPUTATION = "imputation"
"""Column that says which draw a row belongs to."""


def complete_parquet(
    imputer: BaseEstimator,
    source: "str | Path | Iterable[str | Path]",
    target: str | Path,
    *,
    n: int | None = None,
    batch_rows: int = 65_536,
) -> int:
    """Complete a Parquet file, or a folder of them, batch by batch into a new file.

    Parameters
    ----------
    imputer : QAVIImputer
        Fitted to a table with the column names of the file; other columns are copied.
    source : path-like or list of path-like
        What to complete; needs pyarrow.
    target : path-like
        File to write, in a folder that exists; an existing one is replaced when all is written.
    n : int or None, default=None
        None writes what `transform` returns. A number writes so many draws of each row, below one
        another batch by batch, told apart by a column "imputation" that counts from 0.
    batch_rows : int, default=65536
        Rows held in memory at one time. The result does not depend on it.

    Returns
    -------
    n_rows : int
        Number of rows read.

    Raises
    ------
    ValueError
        If a column that the imputer was fitted to is not in the file, n is less than 1, or the
        target cannot be written.

    See Also
    --------
    complete_dask : The same for a Dask dataframe, on all workers of a cluster.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_qavi import QAVIImputer
    >>> from sklearn_qavi.generative import TabularVAE
    >>> from sklearn_qavi.partitions import complete_parquet
    >>> X = load_iris(as_frame=True).data
    >>> quick = TabularVAE(likelihood="gaussian", n_decoders=1)
    >>> imputer = QAVIImputer(generative_model=quick, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     X.mask(X > 5).to_parquet(Path(folder) / "incomplete.parquet")
    ...     n_rows = complete_parquet(
    ...         imputer,
    ...         Path(folder) / "incomplete.parquet",
    ...         Path(folder) / "completed.parquet",
    ...         n=2,
    ...     )
    ...     completed = pd.read_parquet(Path(folder) / "completed.parquet")
    >>> n_rows, len(completed), int(completed.isna().sum().sum())
    (150, 300, 0)
    """
    import pyarrow as pa
    import pyarrow.dataset
    import pyarrow.parquet

    _check_draws(n)
    file = ensure_file(target, "target")
    dataset = pa.dataset.dataset(source, format="parquet")
    _check_columns(imputer, dataset.schema.names)
    batches = dataset.to_batches(
        batch_size=batch_rows, batch_readahead=1, fragment_readahead=1, use_threads=False
    )
    position = 0
    imputer = _giving(imputer, "default")

    def write(part: Path) -> None:
        nonlocal position
        with ExitStack() as stack:
            writer = None
            for batch in batches:
                table = pa.Table.from_batches([batch])
                for completed in _completed_arrow(imputer, table, n, position):
                    if writer is None:
                        about = _metadata(dataset.schema, completed)
                        schema = completed.schema.with_metadata(about)
                        writer = stack.enter_context(pa.parquet.ParquetWriter(part, schema))
                    writer.write_table(completed.cast(writer.schema))
                position += len(table)

    write_whole(file, write)
    return position


def complete_dask(
    imputer: BaseEstimator, frame: "dd.DataFrame", *, n: int | None = None
) -> "dd.DataFrame":
    """Complete a Dask dataframe, partition by partition, on whatever cluster computes it.

    The partitions' lengths are computed at once, to know each row's position; everything else
    happens when the result is computed.

    Parameters
    ----------
    imputer : QAVIImputer
        Fitted to a table with the column names of the dataframe; other columns are copied.
    frame : dask.dataframe.DataFrame
        What to complete.
    n : int or None, default=None
        None gives what `transform` returns. A number gives so many draws of each row, told apart
        by a column "imputation" that counts from 0.

    Returns
    -------
    completed : dask.dataframe.DataFrame
        With as many partitions. A row's values do not depend on the partitioning.

    Raises
    ------
    ValueError
        If a column that the imputer was fitted to is missing, or n is less than 1.

    See Also
    --------
    complete_parquet : The same on one machine, without Dask.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_qavi import QAVIImputer
    >>> from sklearn_qavi.generative import TabularVAE
    >>> from sklearn_qavi.partitions import complete_dask
    >>> X = load_iris(as_frame=True).data
    >>> quick = TabularVAE(likelihood="gaussian", n_decoders=1)
    >>> imputer = QAVIImputer(generative_model=quick, random_state=0).fit(X)
    >>> incomplete = dd.from_pandas(X.mask(X > 5), npartitions=3)
    >>> completed = complete_dask(imputer, incomplete).compute()
    >>> completed.shape, bool(completed.isna().any().any())
    ((150, 4), False)
    """
    import dask.dataframe as dd
    from dask.delayed import delayed

    _check_draws(n)
    _check_columns(imputer, list(frame.columns))
    lengths = frame.map_partitions(len).compute()  # type: ignore[no-untyped-call]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    light = copy.copy(imputer)  # the training table need not travel
    light._fit_X = None
    worker_imputer = delayed(light)
    delayed_parts = frame.to_delayed()  # type: ignore[no-untyped-call]
    parts = [
        delayed(_completed_part)(worker_imputer, part, n, int(start))
        for part, start in zip(delayed_parts, starts, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the rows that Dask makes up are like no others
        meta = _completed_part(light, frame._meta_nonempty, n, 0).iloc[:0]
    completed: dd.DataFrame = dd.from_delayed(
        parts, meta=meta, divisions=frame.divisions if n is None else None
    )
    return completed


def _giving(imputer: BaseEstimator, container: str) -> BaseEstimator:
    """Return the imputer with another container of its output; the one given stays as it is."""
    other = copy.copy(imputer)
    other._sklearn_output_config = {}
    return other.set_output(transform=container)


def _completed_arrow(
    imputer: BaseEstimator, table: "pa.Table", n: int | None, start: int
) -> Iterator["pa.Table"]:
    """Yield the completed rows of a pyarrow table, once for each draw."""
    import pyarrow as pa

    names = list(imputer.feature_names_in_)
    shown = table.select(names)
    if len(table) == 0:
        drawn = [shown.select([c for c in imputer.get_feature_names_out() if c in names])] * (
            n or 1
        )
    elif n is None:
        drawn = [imputer.transform(shown, row_offset=start)]
    else:
        drawn = imputer.sample(shown, n=n, row_offset=start)
    for k, completed in enumerate(drawn):
        columns = {c: table[c] for c in table.column_names if c not in names}
        columns |= dict(zip(completed.column_names, completed.columns, strict=True))
        order = [c for c in table.column_names if c in columns]
        order += [c for c in completed.column_names if c not in order]
        out = pa.table({c: columns[c] for c in order})
        yield out if n is None else out.append_column(IMPUTATION, pa.repeat(k, len(out)))


def _metadata(schema: "pa.Schema", completed: "pa.Table") -> dict[bytes, bytes] | None:
    """Return what pandas wrote about its types and index, as far as it is still true."""
    about = schema.pandas_metadata
    if about is None:
        return None
    names = completed.column_names
    index = [c for c in about["index_columns"] if c in names]  # a range has another length now
    columns = [c for c in about["columns"] if (c["field_name"] or c["name"]) in names]
    about = {**about, "index_columns": index, "columns": columns}
    return {b"pandas": json.dumps(about).encode()}


def _completed_part(
    imputer: BaseEstimator, frame: pd.DataFrame, n: int | None, start: int
) -> pd.DataFrame:
    return pd.concat(_completed(imputer, frame, n, start))


def _completed(
    imputer: BaseEstimator, frame: pd.DataFrame, n: int | None, start: int
) -> Iterator[pd.DataFrame]:
    """Yield the completed rows of a part, once for each draw."""
    names = imputer.feature_names_in_
    others = frame.drop(columns=names)
    imputer = _giving(imputer, "pandas")
    if len(frame) == 0:
        tables = [frame[[c for c in imputer.get_feature_names_out() if c in frame]]] * (n or 1)
    elif n is None:
        tables = [imputer.transform(frame[names], row_offset=start)]
    else:
        tables = imputer.sample(frame[names], n=n, row_offset=start)
    for k, table in enumerate(tables):
        out = pd.concat([others, table], axis=1)
        out = out[[c for c in frame.columns if c in out] + [c for c in table if c not in frame]]
        if n is not None:
            out[IMPUTATION] = k
        yield out


def _check_draws(n: int | None) -> None:
    if n is not None and (isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1):
        raise ValueError(f"n must be None or a whole number of at least 1, got {plain(n)}.")


def _check_columns(imputer: BaseEstimator, columns: list[str]) -> None:
    names = getattr(imputer, "feature_names_in_", None)
    if names is None:
        raise ValueError(
            "The imputer was fitted to an array; fit it to a dataframe, so that its columns can be "
            "found by name."
        )
    missing = [name for name in names if name not in columns]
    if missing:
        raise ValueError(
            f"Column(s) {missing} that the imputer was fitted to are not among {list(columns)}."
        )
