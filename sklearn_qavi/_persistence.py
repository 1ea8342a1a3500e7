"""A fitted imputer as a folder of readable JSON and safetensors, without pickle."""

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from ._checks import plain as shown
from ._files import check_digest, digest_of, ensure_folder, read_json, write_json
from .baselines import BASELINES
from .exceptions import ModelFormatError
from .generative import MODELS, PretrainedDecoder, Training
from .generative._checkpoint import saved_kind
from .inference import POSTERIORS, Adam, Newton
from .preprocessing import COLUMNS, Column, ImageEncoder, Relations, TableEncoder

__all__ = ["describe_imputer", "load_model", "read_imputer", "restore_imputer", "write_imputer"]

_CONFIG, _MODEL = "imputer.json", "model"
_MODEL_CONFIG = f"{_MODEL}/config.json"  # has the checksum of the model's weights
_PARTS: list[type[BaseEstimator]] = [
    *POSTERIORS.values(),
    *BASELINES.values(),
    Adam,
    Newton,
    Training,
]
_ESTIMATORS: dict[str, type[BaseEstimator]] = {**MODELS, **{c.__name__: c for c in _PARTS}}


def load_model(folder: str | Path, *, trusted: Sequence[str] = ()) -> BaseEstimator:
    """Read a generative model of any class from the folder that its ``save`` wrote.

    Parameters
    ----------
    folder : path-like
        Where from.
    trusted : sequence of str, default=()
        The ``source`` of a `PretrainedDecoder` whose code may be imported and called.

    Returns
    -------
    model : TabularVAE, WideResNetVAE, HierarchicalVAE or PretrainedDecoder
        The trained model.

    Raises
    ------
    ModelFormatError
        If a file is missing, was changed in any byte, is of a newer version, or does not fit its
        description.
    """
    kind = saved_kind(folder)
    if kind not in MODELS:
        raise ModelFormatError(f"{folder} holds a {kind}, expected one of {sorted(MODELS)}.")
    return _loaded(kind, folder, trusted)


def _loaded(kind: str, folder: str | Path, trusted: Sequence[str]) -> BaseEstimator:
    if kind == PretrainedDecoder.__name__:
        return PretrainedDecoder.load(folder, trusted=trusted)
    return MODELS[kind].load(folder)


def write_imputer(imputer: BaseEstimator, folder: str | Path) -> None:
    """Write a fitted imputer; the folder is made if need be and older files in it are replaced.

    Parameters
    ----------
    imputer : QAVIImputer or QAVIInpainter
        Fitted, with a model that has ``save``.
    folder : path-like
        Where to.

    Raises
    ------
    ModelFormatError
        If a part of it cannot be written without pickle; the message says which.
    ValueError
        If the folder cannot be written to.
    """
    config = describe_imputer(imputer)
    folder = ensure_folder(folder, "folder")
    imputer.generative_model_.save(folder / _MODEL)
    # last, so that a save that is cut short leaves a description of another model
    files = {_MODEL_CONFIG: digest_of(folder / _MODEL_CONFIG)}
    write_json(folder / _CONFIG, {**config, "files": files})


def describe_imputer(imputer: BaseEstimator) -> dict[str, object]:
    """Return what a fitted imputer is besides its model, as JSON can hold it.

    Raises
    ------
    ModelFormatError
        If a part of it cannot be written without pickle; the message says which.
    """
    model = imputer.generative_model_
    if type(model).__name__ not in MODELS:
        raise ModelFormatError(
            f"An imputer with a {type(model).__name__} cannot be saved without pickle: the code of "
            "its decoder is not ours. Save the decoder's weights with torch and fit again."
        )
    if isinstance(model, PretrainedDecoder):
        model.check_saveable()
    if any(state is not None for state in imputer._method_states):
        raise ModelFormatError(
            f"posterior={shown(imputer.posterior)} has trained networks of its own, which are "
            "not saved without pickle. Use pickle, or another posterior."
        )
    parameters = imputer.get_params(deep=False)
    if parameters["generative_model"] is model:
        parameters["generative_model"] = "saved"
    if not isinstance(parameters["random_state"], int | np.integer):
        parameters["random_state"] = None  # the seed that it gave is saved
    return {
        "kind": type(imputer).__name__,
        "model": type(model).__name__,
        "parameters": {name: _plain(value, name) for name, value in parameters.items()},
        "seed": imputer._seed,
        "n_features": imputer.n_features_in_,
        "feature_names": _plain(getattr(imputer, "feature_names_in_", None), "feature names"),
        "output": getattr(imputer, "_sklearn_output_config", {}),
        **(_plain_images if isinstance(imputer.encoder_, ImageEncoder) else _plain_table)(imputer),
    }


def read_imputer(
    cls: type[BaseEstimator], folder: str | Path, *, trusted: Sequence[str] = ()
) -> BaseEstimator:
    """Read what `write_imputer` wrote.

    Parameters
    ----------
    cls : type
        Class of the imputer.
    folder : path-like
        Where from.
    trusted : sequence of str, default=()
        The ``source`` of a `PretrainedDecoder` whose code may be imported and called.

    Raises
    ------
    ModelFormatError
        If a file is missing, was changed in any byte, is of a newer version, or does not fit its
        description, or if the code of a decoder is not trusted.
    """
    folder = Path(folder)
    config = read_json(folder / _CONFIG, "imputer")
    if config.get("kind") != cls.__name__:
        raise ModelFormatError(f"{folder} holds a {config.get('kind')}, expected a {cls.__name__}.")
    kind = config.get("model")
    if kind not in MODELS:
        raise ModelFormatError(
            f"{folder / _CONFIG} names a {kind} as model, expected one of {sorted(MODELS)}."
        )
    check_digest(folder / _MODEL_CONFIG, config["files"][_MODEL_CONFIG])
    imputer = cls.__new__(cls)  # type: ignore[call-overload]
    model = _loaded(kind, folder / _MODEL, trusted)
    restore_imputer(imputer, config, model, folder / _CONFIG)
    return imputer


def restore_imputer(
    imputer: BaseEstimator, config: dict[str, Any], model: BaseEstimator, where: object
) -> None:
    """Make an imputer what `describe_imputer` described.

    Raises
    ------
    ModelFormatError
        If the description lacks something or does not fit the model.
    """
    try:
        _rebuild(imputer, config, model)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFormatError(
            f"{where} lacks or misnames a part ({type(error).__name__}: {error})."
        ) from error
    if isinstance(imputer.encoder_, ImageEncoder):
        shape = getattr(model, "image_shape_", imputer.encoder_.shape)
        fits = imputer.encoder_.shape == tuple(shape)
        fits &= imputer.encoder_.n_cells == model.n_features_in_
    else:
        expected = imputer.encoder_.n_categories_
        fits = len(expected) == model.n_features_in_
        fits &= expected == getattr(model, "n_categories_", [None] * len(expected))
    if not fits:
        raise ModelFormatError(
            f"The columns in {where} are not those of the model beside it, which has "
            f"{model.n_features_in_}."
        )


def _rebuild(imputer: BaseEstimator, config: dict[str, Any], model: BaseEstimator) -> None:
    parameters = {name: _value(plain) for name, plain in config["parameters"].items()}
    if parameters["generative_model"] == "saved":
        parameters["generative_model"] = model
    imputer.__init__(**parameters)
    if config["output"]:
        imputer._sklearn_output_config = dict(config["output"])
    imputer.n_features_in_ = int(config["n_features"])
    names = _value(config["feature_names"])
    if names is not None:
        imputer.feature_names_in_ = np.array(list(names), dtype=object)
    imputer._seed = int(config["seed"])
    imputer.generative_model_ = model
    imputer.history_ = getattr(model, "history_", [])
    imputer.n_iter_ = getattr(model, "n_iter_", 0)
    imputer._method_states = [None] * len(model.decoders_)
    (_restore_images if "image" in config else _restore_table)(imputer, config)


def _plain_images(imputer: BaseEstimator) -> dict[str, object]:
    return {"image": _plain(dataclasses.asdict(imputer.encoder_), "image")}


def _restore_images(imputer: BaseEstimator, config: dict[str, Any]) -> None:
    imputer.encoder_ = ImageEncoder(**_value(config["image"]))
    imputer.image_shape_ = imputer.encoder_.shape


def _plain_table(imputer: BaseEstimator) -> dict[str, object]:
    encoder, indicator = imputer.encoder_, imputer.indicator_
    relations = [dataclasses.asdict(part) for part in encoder.relations_]
    return {
        "columns": [_plain_column(column) for column in encoder.schema_],
        "limits": _plain([encoder.lower_, encoder.upper_], "limits"),
        "relations": _plain(relations, "relations"),
        "indicator_features": _plain(
            None if indicator is None else indicator.features_, "indicator"
        ),
    }


def _restore_table(imputer: BaseEstimator, config: dict[str, Any]) -> None:
    schema = [_column(plain) for plain in config["columns"]]
    if len(schema) != imputer.n_features_in_:
        raise ValueError(f"{len(schema)} columns are described, not {imputer.n_features_in_}")
    lower, upper = (np.asarray(limit, dtype=np.float64) for limit in _value(config["limits"]))
    relations = [
        Relations(**{name: np.array(values) for name, values in part.items()})
        for part in _value(config["relations"])
    ]
    imputer.encoder_ = TableEncoder.restored(schema, lower, upper, relations, imputer)
    imputer._fit_X = None
    imputer._fit_indicator(np.zeros((1, imputer.n_features_in_), dtype=bool))
    if imputer.indicator_ is not None:
        imputer.indicator_.features_ = np.asarray(_value(config["indicator_features"]), dtype=int)


def _plain_column(column: Column) -> dict[str, object]:
    where = f"column {shown(column.name)}"
    fields = {field: _plain(getattr(column, field), where) for field in _plain_fields(type(column))}
    return {"kind": column.kind, **fields, "dtype": _plain_type(column.dtype, where)}


def _column(plain: dict[str, Any]) -> Column:
    of_kind = COLUMNS[plain["kind"]]
    fields = {field: _value(plain[field]) for field in _plain_fields(of_kind)}
    return of_kind(**fields, dtype=_type(plain["dtype"]))


def _plain_fields(of_kind: type[Column]) -> list[str]:
    """Return the fields of a class of columns but the type, which is written in its own way."""
    return [field.name for field in dataclasses.fields(of_kind) if field.name != "dtype"]


def _plain_type(dtype: object, where: str) -> str | dict[str, object] | None:
    """Return a column's type of pandas or pyarrow as JSON can hold it; None for others."""
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        categories = _plain(list(dtype.categories), where)
        return {"categories": categories, "ordered": bool(dtype.ordered)}
    arrow = getattr(dtype, "pyarrow_dtype", dtype)
    if type(arrow).__module__ == "pyarrow.lib":
        import pyarrow as pa

        text = pa.schema([("column", arrow)]).serialize().to_pybytes().hex()
        return {"pyarrow": text, "in_pandas": arrow is not dtype}
    known = isinstance(dtype, np.dtype | pd.api.extensions.ExtensionDtype)
    return str(dtype) if known else None


def _type(plain: str | dict[str, Any] | None) -> object:
    import pandas as pd

    if plain is None:
        return None
    if isinstance(plain, str):
        return pd.api.types.pandas_dtype(plain)
    if "categories" in plain:
        return pd.CategoricalDtype(_value(plain["categories"]), ordered=plain["ordered"])
    import pyarrow as pa

    arrow = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(plain["pyarrow"]))).field(0).type
    return pd.ArrowDtype(arrow) if plain["in_pandas"] else arrow


def _plain(value: object, where: str) -> object:
    """Return what JSON can hold, with types that it lacks written as {type: value}."""
    import pandas as pd

    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else {"float": repr(value)}
    if isinstance(value, list | np.ndarray):
        return [_plain(item, where) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(item, where) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_plain(k, where), _plain(v, where)] for k, v in value.items()]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, pd.Timestamp):
        return {"timestamp": value.isoformat()}
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return {"date": value.isoformat()}
    if isinstance(value, BaseEstimator) and type(value).__name__ in _ESTIMATORS:
        parameters = _plain(value.get_params(deep=False), where)
        return {"estimator": type(value).__name__, "parameters": parameters}
    raise ModelFormatError(
        f"{where} holds a {type(value).__name__}, which cannot be saved without pickle."
    )


def _value(plain: Any) -> Any:
    import pandas as pd

    if isinstance(plain, list):
        return [_value(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    (kind, content), *rest = plain.items()
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(_value(content))
    if kind == "dict":
        return {_value(k): _value(v) for k, v in content}
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "timestamp":
        return pd.Timestamp(content)
    if kind == "date":
        return datetime.date.fromisoformat(content)
    if kind == "estimator":
        return _ESTIMATORS[content](**_value(dict(rest)["parameters"]))
    raise ValueError(f"unknown type {shown(kind)}")
