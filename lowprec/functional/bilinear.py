"""The bilinear products of layers, and their gradients, as torch or as an arithmetic computes them.

In an arithmetic each is one batch of matrix products. Its noise follows positions in the result: those of
a linear product are (row, output), of a convolution (example, channel, place), of a gradient likewise, in
each case of the tensor that results; the products of one element are numbered by input; by input channel
and place in the window; or, for a gradient, by output, by output channel and place, by row, or by example
and place. Zeros that a convolution pads with, or that a stride skips, are multiplied and added like others.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from lowprec.errors import value_error
from lowprec.functional.arguments import autocast_dtype
from lowprec.functional.plan import Arithmetics
from lowprec.ops.products import Sums, product

# The first streams of the three products; the casts of a layer call have those below.
FORWARD, GRAD_INPUT, GRAD_WEIGHT = 16, 24, 32

_NONE = Arithmetics(None, None, None)

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


class Product:
    """A bilinear product and its two gradients, on operands that are already rounded."""

    roles = ("input", "weight")
    """What observers and audits call the operands."""
    second = "weight"
    """What users call the second operand."""

    def forward(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        arithmetics: Arithmetics | None = None,
        seed: Tensor | None = None,
    ) -> Tensor:
        """The product and the bias."""
        sums = (arithmetics or _NONE).forward
        if sums is None:
            return self.in_carrier(x, weight, bias)
        dtype = autocast_dtype(x)
        if dtype is not None and x.dtype != torch.float64:  # as torch itself does
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        return self.simulated(x, weight, bias, sums, seed)

    def in_carrier(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As torch computes it, unseen by a block of lowprec.simulate, which would simulate it once more."""
        with torch._C.DisableTorchFunction():
            return self.product(x, weight, bias)

    def gradients(
        self,
        x: Tensor,
        weight: Tensor,
        error: Tensor,
        wanted: Sequence[bool],
        arithmetics: Arithmetics | None = None,
        seed: Tensor | None = None,
    ) -> Gradients:
        """The gradients of x, weight and bias that are wanted; a bias has torch's own sum."""
        with torch._C.DisableTorchFunction():
            return self._gradients(x, weight, error, wanted, arithmetics or _NONE, seed)

    def _gradients(
        self,
        x: Tensor,
        weight: Tensor,
        error: Tensor,
        wanted: Sequence[bool],
        arithmetics: Arithmetics,
        seed: Tensor | None,
    ) -> Gradients:
        """The gradients, those of each operand as torch or as an arithmetic computes them."""
        _, own, other = arithmetics
        simulates = [wanted[0] and own is not None, wanted[1] and other is not None, False]
        rest = [want and not done for want, done in zip(wanted, simulates, strict=True)]
        gradients: Gradients = (None, None, None)
        if any(rest):
            gradients = self.differentiated(x, weight, error, rest)
        if wanted[0] and own is not None:
            gradients = self.simulated_input(x, weight, error, own, seed), *gradients[1:]
        if wanted[1] and other is not None:
            gradients = gradients[0], self.simulated_weight(x, weight, error, other, seed), gradients[2]
        return gradients

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As torch computes it."""
        raise NotImplementedError

    def differentiated(self, x: Tensor, weight: Tensor, error: Tensor, wanted: Sequence[bool]) -> Gradients:
        """The gradients that are wanted, as torch computes them."""
        raise NotImplementedError

    def simulated(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """The product in an arithmetic."""
        raise NotImplementedError

    def simulated_input(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """The gradient of x in an arithmetic."""
        raise NotImplementedError

    def simulated_weight(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """The gradient of the weight in an arithmetic."""
        raise NotImplementedError


def check_bias(bias: Tensor | None, outputs: int) -> None:
    """Refuse a bias that is not one number for each output."""
    if bias is not None and tuple(bias.shape) != (outputs,):
        raise value_error("bias", f"have the shape ({outputs},)", tuple(bias.shape))


class LinearProduct(Product):
    """Rows times a transposed matrix; operands have two dimensions."""

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As torch.nn.functional.linear."""
        return torch.nn.functional.linear(x, weight, bias)

    def differentiated(self, x: Tensor, weight: Tensor, error: Tensor, wanted: Sequence[bool]) -> Gradients:
        """Two matrix products and a sum."""
        return (
            error @ weight if wanted[0] else None,
            error.t() @ x if wanted[1] else None,
            error.sum(0) if wanted[2] else None,
        )

    def simulated(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over inputs."""
        if x.shape[1] != weight.shape[1]:
            raise value_error("weight", f"have {x.shape[1]} columns, as the input has", tuple(weight.shape))
        check_bias(bias, weight.shape[0])
        return _matrix_product(x, weight.t(), bias, seed, sums, FORWARD, "input weight")

    def simulated_input(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over outputs."""
        return _matrix_product(error, weight, None, seed, sums, GRAD_INPUT, "error weight")

    def simulated_weight(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over rows."""
        return _matrix_product(error.t(), x, None, seed, sums, GRAD_WEIGHT, "error input")


def _matrix_product(
    a: Tensor, b: Tensor, bias: Tensor | None, seed: Tensor | None, sums: Sums, stream: int, roles: str
) -> Tensor:
    """A product of two matrices in an arithmetic."""
    return product(a.unsqueeze(0), b.unsqueeze(0), bias, seed, sums, stream, roles=roles).squeeze(0)


class MatmulProduct(Product):
    """Batches of matrices, whose batch dimensions broadcast; there is no bias.

    The gradient of a single matrix is one product, summed over the other operand's batches and then over its
    rows or columns. The gradients of other operands that are read several times, one of many, are added by
    torch's own sum.
    """

    roles = ("left", "right")
    second = "other"

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As torch.matmul."""
        return x @ weight

    def differentiated(self, x: Tensor, weight: Tensor, error: Tensor, wanted: Sequence[bool]) -> Gradients:
        """Two products of matrices."""
        own = (error @ weight.mT).sum_to_size(x.shape) if wanted[0] else None
        other = (x.mT @ error).sum_to_size(weight.shape) if wanted[1] else None
        return own, other, None

    def simulated(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over the columns of x."""
        return _batched_product(x, weight, seed, sums, FORWARD, " ".join(self.roles))

    def simulated_input(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over the columns of the result, and over batches for a single matrix."""
        right = weight.mT
        if x.dim() == 2 and weight.dim() > 2:
            error = error.movedim(-2, 0).flatten(1)
            right = right.reshape(-1, right.shape[-1])
        y = _batched_product(error, right, seed, sums, GRAD_INPUT, f"error {self.roles[1]}")
        return y.sum_to_size(x.shape)

    def simulated_weight(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over the rows of the result, and over batches for a single matrix."""
        if weight.dim() == 2 and x.dim() > 2:
            x, error = x.flatten(0, -2), error.flatten(0, -2)
        y = _batched_product(x.mT, error, seed, sums, GRAD_WEIGHT, f"{self.roles[0]} error")
        return y.sum_to_size(weight.shape)


def _batched_product(
    a: Tensor, b: Tensor, seed: Tensor | None, sums: Sums, stream: int, roles: str
) -> Tensor:
    """Products of two batches of matrices in an arithmetic."""
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    size = prod(batch)
    left = a.expand(*batch, *a.shape[-2:]).reshape(size, *a.shape[-2:])
    right = b.expand(*batch, *b.shape[-2:]).reshape(size, *b.shape[-2:])
    y = product(left, right, None, seed, sums, stream, roles=roles)
    return y.reshape(*batch, a.shape[-2], b.shape[-1])


_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)


class ConvProduct(Product):
    """A convolution in one to three dimensions; operands have a batch dimension."""

    def __init__(
        self, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
    ) -> None:
        self.stride, self.padding = list(stride), list(padding)
        self.dilation, self.groups = list(dilation), groups

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As torch.nn.functional.conv1d, conv2d or conv3d."""
        convolve = _CONVOLUTIONS[len(self.stride) - 1]  # which autocast knows, unlike torch.convolution
        return convolve(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def differentiated(self, x: Tensor, weight: Tensor, error: Tensor, wanted: Sequence[bool]) -> Gradients:
        """The operator that autograd itself uses."""
        gradients: Gradients = torch.ops.aten.convolution_backward(
            error, x, weight, [weight.shape[0]], self.stride, self.padding, self.dilation,
            False, [0] * len(self.stride), self.groups, list(wanted),
        )  # fmt: skip
        return gradients

    def simulated(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over input channels and the window."""
        places = self._places(x, weight)
        check_bias(bias, weight.shape[0])
        return self.convolved(x, weight, bias, places, sums, seed, FORWARD, "weight input")

    def simulated_input(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over output channels and the window."""
        return self.transposed(error, weight, None, x.shape, sums, seed, GRAD_INPUT, "weight error")

    def simulated_weight(
        self, x: Tensor, weight: Tensor, error: Tensor, sums: Sums, seed: Tensor | None
    ) -> Tensor:
        """Summed over examples and places."""
        return self.correlated(x, error, weight.shape, sums, seed, GRAD_WEIGHT, "error input")

    def _places(self, x: Tensor, weight: Tensor) -> list[int]:
        """The spatial sizes of the result; shapes that do not fit are refused."""
        if x.shape[1] != weight.shape[1] * self.groups or weight.shape[0] % self.groups:
            must = f"have {x.shape[1]} input channels in {self.groups} groups"
            raise value_error("weight", must, tuple(weight.shape))
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, weight.shape[2:], strict=True)]
        sizes = zip(x.shape[2:], self.padding, reach, self.stride, strict=True)
        places = [(size + 2 * pad - r) // step + 1 for size, pad, r, step in sizes]
        if min(places) < 1:
            raise value_error("input", "be at least as large as the window", tuple(x.shape))
        return places

    def convolved(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        places: Sequence[int],
        sums: Sums,
        seed: Tensor | None,
        stream: int,
        roles: str,
    ) -> Tensor:
        """Each group's kernels times the windows of each example."""
        padded = _padded(x, self.padding, self.padding)
        windows = _windows(padded, weight.shape[2:], places, self.stride, self.dilation)
        kernels = weight.reshape(self.groups, weight.shape[0] // self.groups, prod(weight.shape[1:]))
        y = self._per_example(kernels, windows, bias, sums, seed, stream, roles)
        return y.reshape(x.shape[0], weight.shape[0], *places)

    def transposed(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        shape: Sequence[int],
        sums: Sums,
        seed: Tensor | None,
        stream: int,
        roles: str,
    ) -> Tensor:
        """The transpose of a convolution: one of x, spread by zeros for a stride, with flipped kernels."""
        reach = [d * (k - 1) for d, k in zip(self.dilation, weight.shape[2:], strict=True)]
        spread = _spread(x, self.stride)
        before = [r - pad for r, pad in zip(reach, self.padding, strict=True)]
        after = [
            size + r - have - first
            for size, r, have, first in zip(shape[2:], reach, spread.shape[2:], before, strict=True)
        ]
        ones = [1] * len(reach)
        windows = _windows(_padded(spread, before, after), weight.shape[2:], shape[2:], ones, self.dilation)
        depth, window = weight.shape[0] // self.groups, weight.shape[2:]
        grouped = weight.reshape(self.groups, depth, weight.shape[1], *window)
        flipped = grouped.transpose(1, 2).flip(tuple(range(3, grouped.dim())))
        kernels = flipped.reshape(self.groups, weight.shape[1], depth * prod(window))
        return self._per_example(kernels, windows, bias, sums, seed, stream, roles).reshape(shape)

    def _per_example(
        self,
        kernels: Tensor,
        windows: Tensor,
        bias: Tensor | None,
        sums: Sums,
        seed: Tensor | None,
        stream: int,
        roles: str,
    ) -> Tensor:
        """Each group's kernels times the windows of each example: (example and group, channel, place)."""
        batch, depth, places = windows.shape
        right = windows.reshape(batch * self.groups, depth // self.groups, places)
        left = kernels.expand(batch, *kernels.shape).reshape(batch * self.groups, *kernels.shape[1:])
        return product(left, right, bias, seed, sums, stream, places, roles)

    def correlated(
        self,
        x: Tensor,
        error: Tensor,
        shape: Sequence[int],
        sums: Sums,
        seed: Tensor | None,
        stream: int,
        roles: str,
    ) -> Tensor:
        """Errors times the inputs that each element of a weight meets, over examples and places."""
        padded = _padded(x, self.padding, self.padding)
        windows = _windows(padded, shape[2:], error.shape[2:], self.stride, self.dilation)
        batch, depth, count = windows.shape
        left = error.reshape(batch, self.groups, shape[0] // self.groups, count).permute(1, 2, 0, 3)
        right = windows.reshape(batch, self.groups, depth // self.groups, count).permute(1, 0, 3, 2)
        left = left.reshape(self.groups, shape[0] // self.groups, batch * count)
        right = right.reshape(self.groups, batch * count, depth // self.groups)
        return product(left, right, None, seed, sums, stream, roles=roles).reshape(shape)


def _padded(x: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Zeros at the ends of the spatial dimensions; what is less than none is cut."""
    ends = [end for pair in zip(reversed(before), reversed(after), strict=True) for end in pair]
    return torch.nn.functional.pad(x, ends) if any(ends) else x


def _spread(x: Tensor, stride: Sequence[int]) -> Tensor:
    """Zeros between neighbors, so many less one."""
    if all(step == 1 for step in stride):
        return x
    sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], stride, strict=True)]
    out = x.new_zeros(*x.shape[:2], *sizes)
    out[(slice(None), slice(None), *(slice(None, None, step) for step in stride))] = x
    return out


def _windows(
    x: Tensor, kernel: Sequence[int], places: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """The inputs of each place: (example, channel and place in the window, place)."""
    x = x.contiguous()
    steps = x.stride()[2:]
    size = (*x.shape[:2], *kernel, *places)
    inside = [step * far for step, far in zip(steps, dilation, strict=True)]
    along = [step * far for step, far in zip(steps, stride, strict=True)]
    view = x.as_strided(size, (*x.stride()[:2], *inside, *along))
    return view.reshape(x.shape[0], x.shape[1] * prod(kernel), prod(places))
