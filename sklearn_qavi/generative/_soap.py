"""SOAP: Adam in a basis in which the curvature of small networks is nearly diagonal."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ._stacked import keep_members, split_weights

__all__ = ["StackedSoap"]

_EPSILON = 1e-8
_MEMORY = 0.95  # of the products of gradients
_LEARNS_EVERY, _TURNED_EVERY = 2, 10  # steps between two updates of the products, of the bases


class StackedSoap:
    """SOAP [1]_ on M networks at a time, in place.

    For each weight matrix W with gradient G, ``E[G G']`` and ``E[G' G]`` are averaged over steps.
    In the basis of their eigenvectors, the one that Shampoo scales gradients in [2]_, entries of
    the gradient are nearly uncorrelated, which is what Adam takes for granted; so Adam's steps are
    made in that basis. The first gradient sets the bases and moves nothing. Later one QR step of
    orthogonal iteration, every ten steps, lets them follow. Vectors get Adam's steps as they are.

    Parameters
    ----------
    weights : Tensor of shape (P,)
        Where it starts: all weights, one after the other.
    shapes : sequence of tuple of int
        Shapes (M', ...) of the weights in that order, each of M' of the networks.
    betas : tuple of float
        Shares of the means of gradients and of their squares that stay at each step.
    widest : int, default=128
        A side with more entries keeps its own basis: its products would cost too much. With 0
        these are Adam's steps.

    References
    ----------
    .. [1] Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson, Kakade (2025), "SOAP:
       Improving and Stabilizing Shampoo using Adam", ICLR.
    .. [2] Gupta, Koren, Singer (2018), "Shampoo: Preconditioned Stochastic Tensor Optimization",
       ICML.
    """

    def __init__(
        self,
        weights: Tensor,
        shapes: Sequence[tuple[int, ...]],
        betas: tuple[float, float],
        widest: int = 128,
    ) -> None:
        self.betas, self.n_steps = betas, 0
        self.mean, self.square = torch.zeros_like(weights), torch.zeros_like(weights)
        self.shapes = list(shapes)
        self.bases = [_Bases(weights, shape, widest) for shape in shapes]

    def step(self, weights: Tensor, gradient: Tensor, step_size: float) -> None:
        """Change the weights (P,) by one step."""
        self.n_steps += 1
        gradients = self._parts(gradient)
        n_learned, rest = divmod(self.n_steps - 1, _LEARNS_EVERY)
        if rest == 0:
            for bases, part in zip(self.bases, gradients, strict=True):
                bases.learn(part, max(1.0 - _MEMORY, 1.0 / (n_learned + 1)))
        if self.n_steps == 1:
            for bases in self.bases:
                bases.decompose()
        elif self.n_steps % _TURNED_EVERY == 0:
            for bases, part in zip(self.bases, self._parts(self.mean), strict=True):
                bases.turn(part)
        turned = [b.into(part).flatten() for b, part in zip(self.bases, gradients, strict=True)]
        self._adam(weights, torch.cat(turned), step_size)

    def _adam(self, weights: Tensor, gradient: Tensor, step_size: float) -> None:
        """Make Adam's step of a gradient that is in the bases."""
        of_mean, of_square = (1.0 - beta**self.n_steps for beta in self.betas)
        self.mean.lerp_(gradient, 1.0 - self.betas[0])
        self.square.mul_(self.betas[1]).addcmul_(gradient, gradient, value=1.0 - self.betas[1])
        if self.n_steps == 1 and any(bases.known for bases in self.bases):
            return  # in its own basis one gradient has a singular value in few entries, else noise
        size = self.square.sqrt().div_(of_square**0.5).add_(_EPSILON)
        moves = self._parts(self.mean / size)
        for bases, weight, move in zip(self.bases, self._parts(weights), moves, strict=True):
            bases.add_out_of(weight, move, -step_size / of_mean)

    def select(self, masks: Sequence[Tensor]) -> None:
        """Go on with some networks, by the mask (M',) of each weight, see `keep_members`."""
        self.mean, self.square = (
            keep_members(vector, self.shapes, masks) for vector in (self.mean, self.square)
        )
        left = [k for k, mask in enumerate(masks) if mask.any()]
        self.shapes = [(int(masks[k].sum()), *self.shapes[k][1:]) for k in left]
        for k in left:
            self.bases[k].select(masks[k])
        self.bases = [self.bases[k] for k in left]

    def _parts(self, vector: Tensor) -> list[Tensor]:
        return split_weights(vector, self.shapes)


class _Bases:
    """The bases of the rows and of the columns of a weight, for M networks; none for a vector."""

    def __init__(self, like: Tensor, shape: tuple[int, ...], widest: int) -> None:
        n_members, n_rows, n_columns = shape if len(shape) == 3 else (shape[0], 1, 1)
        self.row_products, self.column_products = (
            like.new_zeros(n_members, n, n) if 1 < n <= widest else None
            for n in (n_rows, n_columns)
        )
        self.rows: Tensor | None = None
        self.columns: Tensor | None = None

    @property
    def known(self) -> bool:
        """Whether there is any."""
        return self.rows is not None or self.columns is not None

    def learn(self, gradient: Tensor, share: float) -> None:
        """Take the products of a gradient into their means."""
        if self.row_products is not None:
            self.row_products.baddbmm_(gradient, gradient.mT, beta=1.0 - share, alpha=share)
        if self.column_products is not None:
            self.column_products.baddbmm_(gradient.mT, gradient, beta=1.0 - share, alpha=share)

    def decompose(self) -> None:
        """Set the bases to eigenvectors."""
        self.rows, self.columns = map(_eigenvectors, (self.row_products, self.column_products))

    def turn(self, mean: Tensor) -> None:
        """Let the bases follow, and what is given in them, in place."""
        if not self.known:
            return
        before = torch.zeros_like(mean)
        self.add_out_of(before, mean, 1.0)
        self.rows = _followed(self.rows, self.row_products)
        self.columns = _followed(self.columns, self.column_products)
        mean.copy_(self.into(before))

    def into(self, gradient: Tensor) -> Tensor:
        """Return a gradient in the bases."""
        if self.rows is not None:
            gradient = torch.bmm(self.rows.mT, gradient)
        if self.columns is not None:
            gradient = torch.bmm(gradient, self.columns)
        return gradient

    def add_out_of(self, weight: Tensor, move: Tensor, size: float) -> None:
        """Add a multiple of a move that is given in the bases to a weight, in place."""
        if self.columns is not None:
            move = torch.bmm(move, self.columns.mT)
        if self.rows is None:
            weight.add_(move, alpha=size)
        else:
            weight.baddbmm_(self.rows, move, alpha=size)

    def select(self, mask: Tensor) -> None:
        """Go on with the networks under a mask."""
        for name, tensor in vars(self).items():
            setattr(self, name, None if tensor is None else tensor[mask.to(tensor.device)])


def _eigenvectors(products: Tensor | None) -> Tensor | None:
    """Return the eigenvectors of positive semidefinite matrices (M, n, n), as columns."""
    if products is None:
        return None
    # once, so in double precision: in single, next to nothing can keep LAPACK from converging
    finite = torch.nan_to_num(products.cpu().double())
    vectors: Tensor = torch.linalg.eigh(finite)[1]
    return vectors.to(products)


def _followed(basis: Tensor | None, products: Tensor | None) -> Tensor | None:
    """Return bases after a step of orthogonal iteration towards the eigenvectors."""
    if basis is None or products is None:
        return None
    turned: Tensor = torch.linalg.qr(products @ basis)[0]
    return turned
