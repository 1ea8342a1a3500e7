"""How much is done at one time: the limits of memory and cache, and what follows from them.

A processor is fastest with what fits into its cache, and reads its own flags for nothing. A GPU
needs thousands of rows at a time, and waits whenever the host looks at a number. Whoever makes or
holds something whose size is open asks here: `plan_for` a device, `DecoderPlan` for the work with a
decoder on a device, `LayerPlan` for the images that go down the layers of a hierarchical decoder.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ._typing import Decoder, HasLayers, LayeredDecoder

__all__ = [
    "CPU_IMAGES",
    "CPU_ROWS",
    "ROWS_MULTIPLE",
    "ROWS_TRIED",
    "WEIGHED_CODES",
    "DecoderPlan",
    "LayerPlan",
    "Plan",
    "bytes_made",
    "bytes_per_code",
    "draws_held",
    "holds_points",
    "pixels_summed_over",
    "plan_for",
    "row_slices",
    "rows_of_bins",
    "rows_scored_in_training",
    "weighed_at_a_time",
    "widest",
]

ROWS_MULTIPLE = 32
"""Rows in work are a multiple of it, so that vector kernels meet no ragged end: sums over draws
differ in their last bit there."""

CPU_ROWS = 64
"""Rows in work at one time on a CPU, which fit into its cache."""

CPU_IMAGES = 32
"""Images that a CPU decodes at one time: convolutions choose their way by the number of images, so
that a row's last bits would depend on the batch; and activations of so many stay in the cache."""

ROWS_TRIED = 8
"""Images that start codes are tried on at one time, on a CPU: what is made of them stays in the
cache, and few are made in vain where few are asked for."""

WEIGHED_CODES = 256
"""Codes of a block of rows that are weighed at one time."""

# rows in work, and rows whose posteriors are held
_CPU_CHUNK = 4096
_GPU_ROWS = 8192  # not yet measured
_GPU_CHUNK = 32_768
_CHUNK_CELLS = 2**20  # 256 draws of each, as a median takes, are 2 GiB
_LAYER_NUMBERS_HELD = 2**26  # of the posteriors of a chunk of rows, 256 MiB
_GPU_STEPS = 4  # not yet measured
_STEPS_DRAWN = 32  # what is sent has to wait for the step in work
_SHARE = 0.4  # of the memory of a device, for what one step holds
_UNKNOWN = 2**32  # bytes of a device that does not say how many it has

# codes that are decoded
_CPU_DECODED = 2**20  # numbers, 4 MiB: to ask a system for more takes longer than to fill them
_GPU_DECODED = 2**26
_CODES_OF_BLOCK = 256  # of a row, that memory has to do for
_SCORED_DRAWS = 250  # codes of a block scored at a time
_TRAINING_ROWS, _TRAINING_NUMBERS = 256, 2**22  # of an inference that scores networks in training

_CACHED_LOGITS = 2**17  # with as many probabilities, and the slopes behind them, they fit a cache

_CACHED_CELLS = 2**17  # log densities of cells at codes that are tried

# noise and draws
_POINTS = 2**22  # numbers of Sobol points, 32 MiB
_UNIFORMS = 2**25  # behind draws that are made at a time, 256 MiB
_DRAWS_BYTES = 2**26  # of draws that wait to be taken one by one

_TABLE_CELLS = 2**20  # of a table that change their units at a time, 8 MiB

# sums over what missing channels of a pixel might be
_CPU_TERMS, _GPU_TERMS = 2**17, 2**24  # what a CPU's cache holds, and else
_COPIED = 2**24  # parameters of pixels

# images that go down layers
_MOST_IMAGES, _MOST_NUMBERS = 64, 2**24  # where no gradient is asked for
_MOST_KEPT, _PER_CODE = 2**25, 24  # features for gradients; a number of the code counts as so many
_SLOTS, _SMALL = 4, 2**16  # rows in work if no layer has more features than that
_KEPT_BYTES, _NUMBER_BYTES = 34, 64  # of a feature for gradients, of a number of a map without
_GPU_IMAGES, _GPU_SLOTS, _SLOT_DRAWS = 1024, 64, 4  # not yet measured


@dataclass(frozen=True)
class Plan:
    """What is done at one time on a device.

    Parameters
    ----------
    memory : int or None
        Bytes of the device; None for a CPU, where the cache decides.
    steps_per_look : int
        Newton steps after which the host looks which rows are done.
    keeps_shape : bool
        Whether as many rows are computed when fewer are left. On a GPU another number of rows may
        mean another kernel, which rounds differently; on a CPU it is time saved.
    """

    memory: int | None
    steps_per_look: int
    keeps_shape: bool

    def rows(self, bytes_per_row: Callable[[], int]) -> int:
        """Return how many rows are in work at one time, if each takes so many bytes.

        Powers of two from 32 to 8,192 on a GPU; 64 on a CPU, which does not ask for the bytes.
        """
        if self.memory is None:
            return CPU_ROWS
        fit = int(_SHARE * self.memory) // max(bytes_per_row(), 1)
        return min(max(_power_below(fit), ROWS_MULTIPLE), _GPU_ROWS)

    def chunk_rows(self, n_features: int, decoders: Sequence[Decoder] = ()) -> int:
        """Return how many rows' posteriors, under some decoders, are held at one time."""
        rows = _CPU_CHUNK
        if self.memory is not None:
            rows = min(max(_CHUNK_CELLS // max(n_features, 1), _CPU_CHUNK), _GPU_CHUNK)
        layers = [plan for plan in map(_layer_plan, decoders) if plan is not None]
        if not layers:
            return rows
        numbers = len(layers) * max(plan.numbers_per_row for plan in layers)
        return min(rows, max(1, _LAYER_NUMBERS_HELD // numbers))

    @property
    def steps_drawn(self) -> int:
        """For how many steps of training rows and noise are drawn, and sent, at one time."""
        return 1 if self.memory is None else _STEPS_DRAWN

    @property
    def decoded_numbers(self) -> int:
        """How many outputs of a decoder are held at one time where draws are made."""
        return _CPU_DECODED if self.memory is None else _GPU_DECODED

    def codes_scored(self, n_cells: int) -> int:
        """Return how many codes are tried at one time on this many cells."""
        if self.memory is None:
            return max(1, _CACHED_CELLS // max(n_cells, 1))
        return self.decoded_numbers

    @property
    def terms(self) -> int:
        """How many terms of a sum over missing channels are made at one time."""
        return _CPU_TERMS if self.memory is None else _GPU_TERMS


def plan_for(device: torch.device) -> Plan:
    """Return what to do at one time on a device."""
    if device.type == "cpu":
        return Plan(None, 1, False)
    memory = _UNKNOWN
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    return Plan(memory, _GPU_STEPS, True)


@dataclass(frozen=True)
class LayerPlan:
    """How many images go down the layers of a hierarchical decoder at one time.

    Not up to the caller: with another number at one time convolutions round differently. On a GPU
    the numbers follow from its memory; none of them has been measured on one.

    Parameters
    ----------
    decoder : LayeredDecoder
        The decoder, on the device where it works.
    """

    decoder: LayeredDecoder

    @property
    def images(self) -> int:
        """How many images, one per row and draw, where no gradient is asked for.

        A power of two up to 64, so that the largest maps and the codes of all of them are some
        16 million numbers; up to 1,024 on a GPU.
        """
        numbers = max(self._sizes) + self.decoder.latent_dim
        if self._memory is None:
            return min(_power_below(_MOST_NUMBERS // numbers), _MOST_IMAGES)
        return min(_power_below(self._fit(_NUMBER_BYTES * numbers)), _GPU_IMAGES)

    @property
    def images_with_gradient(self) -> int:
        """For how many images the device should keep what their gradients take, 1 at least.

        Some 34 bytes for each feature and 800 for each number of the code, on a processor about a
        gigabyte in all.
        """
        kept = self.numbers_per_row + _PER_CODE * self.decoder.latent_dim
        if self._memory is None:
            return max(1, min(_MOST_IMAGES, _MOST_KEPT // kept))
        return max(1, min(_GPU_IMAGES, self._fit(_KEPT_BYTES * kept)))

    @property
    def rows_in_work(self) -> int:
        """Rows whose posteriors are fitted at one time: 4 small ones on a CPU, else 1.

        On a GPU a power of two up to 64, so that a few draws of each fit into its memory.
        """
        if self._memory is None:
            return _SLOTS if max(self._sizes) <= _SMALL else 1
        return min(_power_below(self.images_with_gradient // _SLOT_DRAWS), _GPU_SLOTS)

    @property
    def numbers_per_row(self) -> int:
        """How many features a row's posterior has at all layers together."""
        return sum(self._sizes)

    def _fit(self, n_bytes: int) -> int:
        """Return how many things of so many bytes a step may hold."""
        assert self._memory is not None
        return int(_SHARE * self._memory) // n_bytes

    @property
    def _memory(self) -> int | None:
        weight = next(iter(getattr(self.decoder, "parameters", tuple)()), None)
        return None if weight is None else plan_for(weight.device).memory

    @property
    def _sizes(self) -> list[int]:
        return [torch.Size(shape).numel() for shape in self.decoder.feature_shapes]


@dataclass(frozen=True)
class DecoderPlan:
    """How much of the work with one decoder is done at one time on a device.

    Rows of a decoder with layers are summarised one by one, or as many together as make so many
    images with their draws as always go down the layers.

    Parameters
    ----------
    decoder : object
        Has ``decode``, ``likelihood`` and ``latent_dim``; and ``decodes_with``, another decoder, if
        it only changes what becomes of what that one decodes.
    device : torch.device
        Where it is.
    """

    decoder: Decoder
    device: torch.device

    @property
    def images(self) -> int | None:
        """How many images a decoder with layers works on together, None for other decoders."""
        layers = _layer_plan(self.decoder)
        return None if layers is None else layers.images

    def rows(self) -> int:
        """Return how many rows are summarised together; blocks with fewer are filled up."""
        if self.images is not None:
            return 1
        if self.device.type == "cpu" and getattr(self.decoder, "decodes_alone", False):
            return ROWS_MULTIPLE
        return plan_for(self.device).rows(self._bytes_of_row)

    def draws(self, n_rows: int) -> int:
        """Return how many codes of each of these rows are decoded at one time."""
        if self.images is not None:
            return max(1, self.images // max(n_rows, 1))
        return max(1, plan_for(self.device).decoded_numbers // max(n_rows * self._n_outputs, 1))

    def scored_draws(self, n_rows: int) -> int:
        """Return how many codes of each of these rows are scored at one time."""
        return min(_SCORED_DRAWS, self.draws(n_rows))

    def density_codes(self, n_codes: int) -> int:
        """Return how many of so many codes of each row a density is averaged over at one time."""
        return self.images or n_codes

    def rows_drawn(self, n_draws: int) -> int:
        """Return from how many rows so many draws are made together."""
        if self.images is None:
            return self.rows()
        return self.images // min(1 << (n_draws - 1).bit_length(), self.images)

    def draws_made(self, n_draws: int, n_rows: int, n_uniforms: int) -> int:
        """Return how many of so many draws of these rows, of so many uniforms, are made together.

        Of a decoder with layers always as many, even where fewer are asked for.
        """
        if self.images is not None:
            return self.images // n_rows
        return min(n_draws, max(1, _UNIFORMS // (n_rows * n_uniforms)))

    @property
    def _n_outputs(self) -> int:
        return int(getattr(self.decoder.likelihood, "n_outputs", 1))

    def _bytes_of_row(self) -> int:
        def decoded(n: int) -> Tensor:
            codes = torch.zeros(n, self.decoder.latent_dim, device=self.device)
            return self.decoder.likelihood.mean(self.decoder.decode(codes))

        return _CODES_OF_BLOCK * bytes_per_code(decoded)


def widest(decoders: Sequence[Decoder]) -> Decoder:
    """Return the decoder with the most outputs, which decides for all of a pool."""
    return max(decoders, key=lambda d: int(getattr(d.likelihood, "n_outputs", 1)))


def weighed_at_a_time(images: int | None) -> tuple[int, int]:
    """Return how many rows, and how many codes of each, are weighed at one time.

    ``images`` is what a posterior over layers works on together, see `LayerPlan`; None for others.
    """
    return (CPU_ROWS, WEIGHED_CODES) if images is None else (1, images)


def rows_scored_in_training(n_draws: int, n_outputs: int) -> int:
    """Return how many rows are inferred at one time where networks in training are scored."""
    fit = _TRAINING_NUMBERS // (n_draws * max(n_outputs, 1))
    return min(max(fit // ROWS_MULTIPLE, 1) * ROWS_MULTIPLE, _TRAINING_ROWS)


def pixels_summed_over(n_codes: int, n_parameters: int, multiple: int) -> int:
    """Return of how many pixels, for so many codes, parameters are copied at one time.

    A multiple of ``multiple``: sums over what missing channels might be copy them.
    """
    return multiple * max(1, _COPIED // (multiple * n_codes * n_parameters))


def rows_of_bins(n_draws: int, n_bins: int) -> int:
    """Return of how many rows the logits of so many draws and bins are in work at one time."""
    return max(1, _CACHED_LOGITS // (n_draws * n_bins))


def draws_held(n_draws: int, n_cells: int) -> int:
    """Return how many of so many draws of a table are held until they are taken one by one."""
    return max(1, min(n_draws, int(_DRAWS_BYTES / (8 * n_cells))))


def row_slices(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yield slices of all rows of a table, of as many as change their units at one time."""
    size = max(1, _TABLE_CELLS // max(n_columns, 1))
    for first in range(0, n_rows, size):
        yield slice(first, min(first + size, n_rows))


def holds_points(n_numbers: int) -> bool:
    """Return whether points of so many numbers are made once and held."""
    return n_numbers <= _POINTS


def _layer_plan(decoder: Decoder) -> LayerPlan | None:
    """Return the plan of a decoder with layers, or around one; None for others."""
    inner = getattr(decoder, "decodes_with", decoder)
    return LayerPlan(cast(LayeredDecoder, inner)) if isinstance(inner, HasLayers) else None


def _power_below(n: int) -> int:
    """Return the largest power of two that is at most n, 1 at least."""
    return 1 << max(n.bit_length() - 1, 0)


def bytes_made(function: Callable[[], object]) -> int:
    """Return the bytes of all tensors that a function makes on its way.

    More than it holds at any time, and the same on every device.
    """
    with torch.no_grad(), _BytesMade() as made:
        function()
    n_bytes: int = made.n_bytes
    return n_bytes


def bytes_per_code(function: Callable[[int], object]) -> int:
    """Return the bytes that each code more takes of a function of so many codes."""
    few, more = 1, 9
    made = [bytes_made(partial(function, n)) for n in (few, more)]
    return max((made[1] - made[0]) // (more - few), 1)


class _BytesMade(TorchDispatchMode):
    """Counts the bytes of what is made; views of something are not."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        known = {_address(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        self.n_bytes += sum(t.numel() * t.element_size() for t in made if _address(t) not in known)
        return out


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
