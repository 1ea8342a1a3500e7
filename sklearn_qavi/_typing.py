"""Aliases and protocols that the stages agree on.

Axes: S draws, N rows, B rows of one block, D features, L latent, C components, P parameters.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypedDict, Union, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

if TYPE_CHECKING:
    import joblib
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = [
    "Array",
    "Block",
    "Chosen",
    "Container",
    "Decoder",
    "Encodes",
    "EncodingDecoder",
    "FeatureLikelihood",
    "FitsRows",
    "HasCategories",
    "HasLayers",
    "HasUniforms",
    "JointLikelihood",
    "LayerPosterior",
    "LayeredDecoder",
    "Likelihood",
    "Masks",
    "MeanAndScale",
    "Memory",
    "Progress",
    "Score",
    "ScoreDetails",
    "ScoresOfRows",
    "Step",
    "Table",
    "Target",
]

Array = NDArray[np.generic]
"""An array of any type of cells."""

Table = Union[ArrayLike, "pd.DataFrame", "pl.DataFrame", "pa.Table"]
"""What estimators take as a table: an array-like or a dataframe."""

Container = Union[Array, "pd.DataFrame", "pl.DataFrame", "pa.Table"]
"""What estimators give back: the kind that came, or that ``set_output`` asks for."""

ScoresOfRows = dict[str, NDArray[np.float64]]
"""Scores by name, of rows or of numbers of draws and rows."""

Memory = Union[str, "joblib.Memory", None]
"""Where trainings are kept."""

Masks = str | float | Callable[[np.random.Generator, int, int], ArrayLike] | ArrayLike
"""A distribution of masks, see `PosteriorMatching`."""

Progress = Callable[[int], None]
"""Called with the number of rows that have just been finished."""

MeanAndScale = tuple[Tensor, Tensor]
"""Of independent Gaussians."""

Chosen = tuple[Tensor, tuple[Tensor, ...]]
"""The code (n, C, R, R) of a layer, and tensors to hand on."""

LayerPosterior = Callable[..., MeanAndScale]
"""``posterior(features)`` gives what the encoder's posterior network of a layer makes of features
(n, W, R, R), and ``posterior(features, network)`` what another network does."""

Step = Callable[[int, MeanAndScale, LayerPosterior], Chosen]
"""``step(layer, prior, posterior)`` chooses the code of a layer."""


class ScoreDetails(TypedDict):
    """What the inference of scored rows took, see `QAVIImputer.score_missing`."""

    n_cells: NDArray[np.intp]
    n_evaluations: NDArray[np.float64]
    converged: NDArray[np.bool_]
    seconds: float


class Block(Protocol):
    """The observed data of B rows, as a log likelihood of latent codes."""

    def __call__(self, z: Tensor) -> Tensor:
        """Return log p(x_O | z) in nats, (S, B), for codes ``z`` (S, B, L)."""
        ...


class Target(Protocol):
    """What the engine fits a posterior to: rows that can be taken out as blocks."""

    @property
    def n_rows(self) -> int:
        """Number of rows N."""
        ...

    @property
    def latent_dim(self) -> int:
        """Size L of the latent code."""
        ...

    @property
    def device(self) -> torch.device:
        """Where codes are made."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of codes."""
        ...

    def block(self, rows: Tensor) -> Block:
        """Return the block of the rows with these indices, (B,)."""
        ...

    def score_codes(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from row indices (B,) to log p(x_O | z) in nats, (K, B).

        The K codes ``z`` (K, L) are decoded once, however many rows they are then tried on.
        """
        ...


class Likelihood(Protocol):
    """p(x | z) of the cells of a row, given the decoder's output for a code."""

    def prepare(self, x: Tensor) -> Any:
        """Return what `log_prob` needs of values (..., D), computed once."""
        ...

    def log_prob(self, params: Tensor, prepared: Any) -> Tensor:
        """Return the log density of each cell in nats, (..., D)."""
        ...

    def mean(self, params: Tensor) -> Tensor:
        """Return the mean of each cell, (..., D)."""
        ...

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        """Return a draw of each cell, (..., D), from two uniforms per cell, (..., D, 2)."""
        ...


@runtime_checkable
class JointLikelihood(Protocol):
    """What a likelihood has besides if cells depend on each other given the code."""

    def log_prob_observed(self, params: Tensor, prepared: Any, observed: Tensor) -> Tensor:
        """Return the log density of the cells under a mask, (...,), in nats."""
        ...

    def sample_given(self, params: Tensor, uniform: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """Return a draw of each cell given the observed ones, (..., D)."""
        ...

    def mean_given(self, params: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """Return the mean of each cell given the observed ones, (..., D)."""
        ...


@runtime_checkable
class HasUniforms(Protocol):
    """A likelihood whose draws grow with the first uniform of a cell, or fall with it."""

    def prepare(self, x: Tensor) -> Any:
        """Return what the next method needs of the values (B, D)."""
        ...

    def uniforms_of(self, params: Tensor, prepared: Any) -> tuple[Tensor, Tensor]:
        """Return the first and last uniform that ``sample`` turns into a value, (..., B, D)."""
        ...


class Decoder(Protocol):
    """From a code to the parameters of a likelihood over columns or pixels."""

    @property
    def latent_dim(self) -> int:
        """Size L of the latent code."""
        ...

    @property
    def likelihood(self) -> Likelihood:
        """What it decodes to, maybe a `JointLikelihood` too."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters (..., P) for codes (..., L)."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """What a decoder has besides that comes with an encoder of one code."""

    def encode(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale, (..., L), of the code of values (..., D) seen under a mask."""
        ...


@runtime_checkable
class ScoresCodes(Protocol):
    """What a likelihood has besides that knows a faster way to try the same codes on many rows."""

    def scores_of_codes(self, params: Tensor) -> Callable[[Any, Tensor], Tensor]:
        """Return the function from what is prepared of B rows, and their mask (B, D), to scores.

        Scores are log p(x_O | z) in nats, (K, B), at the codes that ``params`` (K, P) are of.
        """
        ...


@runtime_checkable
class FitsRows(Protocol):
    """What a likelihood has besides that finds once what its log density needs of rows."""

    def fit_of_decoded(self, prepared: Any, observed: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from what is decoded, (..., B, P), to log p(x_O | z) in nats.

        ``prepared`` is what `prepare` returned for the B rows, ``observed`` (B, D) their mask.
        """
        ...


@runtime_checkable
class Observes(Protocol):
    """What a decoder has besides that knows a faster way to the bound of its rows on a CPU."""

    def observe(self, prepared: Any, observed: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from codes (S, B, L), S > 1, to log p(x_O | z) in nats, (S, B).

        ``prepared`` is what the likelihood prepared of B rows, ``observed`` (B, D) their mask. Only
        codes get gradients.
        """
        ...


@runtime_checkable
class HasLayers(Protocol):
    """What a decoder has besides whose code is that of many stochastic layers."""

    def descend(
        self, n: int, step: Step, *, checkpointing: bool = False
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Walk down the layers with codes that ``step(layer, prior, posterior)`` chooses."""
        ...


class FeatureLikelihood(Likelihood, Protocol):
    """A likelihood whose parameters can be those of a posterior over features."""

    @property
    def n_outputs(self) -> int:
        """Number P of its parameters."""
        ...

    @property
    def reparameterised(self) -> Tensor:
        """Whether `sample` carries gradients, bool (D,)."""
        ...

    def entropy(self, params: Tensor) -> Tensor:
        """Return the entropy of each cell in nats, (..., D), in closed form."""
        ...


class HasCategories(Protocol):
    """What a likelihood has besides for columns of categories."""

    @property
    def n_categories(self) -> list[int | None]:
        """Number of categories of each column, None for a column of numbers."""
        ...

    @property
    def categorical_columns(self) -> list[int]:
        """Columns that hold categories."""
        ...

    def cpu(self) -> Self:
        """Return it on the CPU, as modules do."""
        ...

    def probabilities(self, params: Tensor) -> Tensor:
        """Return the probabilities of all categories of all such columns, side by side."""
        ...

    def of_categories(self, probability: Tensor) -> dict[int, Tensor]:
        """Return the probabilities (..., K) of the categories of each column."""
        ...


class Score(Protocol):
    """What the best epoch of a training is kept by; less is better."""

    name: ClassVar[str]
    """What it is called in the history."""

    def __call__(self, network: Any, /) -> float:
        """Return the score of a network."""
        ...


class EncodingDecoder(Decoder, Encodes, Protocol):
    """A decoder that comes with an encoder of one code."""


class LayeredDecoder(Decoder, HasLayers, Protocol):
    """A decoder with stochastic layers, and what posteriors over their codes need of it."""

    image_shape: tuple[int, int, int]
    layer_sizes: list[int]
    feature_shapes: list[tuple[int, int, int]]

    def split_codes(self, z: Tensor) -> list[Tensor]:
        """Return each layer's code of flat codes (n, L)."""
        ...

    def features(self, x: Tensor) -> list[Tensor]:
        """Return what the encoder tells each layer of complete rows (n, D)."""
        ...

    def observed_positions(self, observed: Tensor) -> list[Tensor]:
        """Return which positions of each layer stand for an observed pixel, (n, 1, R, R)."""
        ...
