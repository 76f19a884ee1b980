"""einsum of two operands as one product of batches of matrices.

torch's own calls that product where no mode sees it.
"""

from math import prod
from string import ascii_letters
from typing import Any

import torch
from torch import Tensor

from lowprec import functional
from lowprec.errors import value_error


def einsum(options: Any, equation: str, *operands: Any) -> Tensor:
    """One operand has no product; with two, the one that both labels' sums make."""
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    if len(given) == 1:
        return torch.einsum(equation, *given)
    left, right = given
    first, second, result = _labels(equation, left.dim(), right.dim())
    left, first = _own(left, first, {*second, *result})
    right, second = _own(right, second, {*first, *result})
    sizes = dict.fromkeys(first + second, 1)
    for labels, x in ((first, left), (second, right)):
        for label, size in zip(labels, x.shape, strict=True):
            sizes[label] = size if sizes[label] == 1 else sizes[label]
    batch = [label for label in first if label in second and label in result]
    summed = [label for label in first if label in second and label not in result]
    rows = [label for label in first if label not in second]
    columns = [label for label in second if label not in first]

    def matrices(x: Tensor, labels: str, *groups: list[str]) -> Tensor:
        """The operand with three dimensions; what is common has its size in both."""
        order = [label for group in groups for label in group]
        x = x.permute([labels.index(label) for label in order]).expand([sizes[label] for label in order])
        return x.reshape([prod(sizes[label] for label in group) for group in groups])

    y = functional.matmul(
        matrices(left, first, batch, rows, summed), matrices(right, second, batch, summed, columns), **options
    )
    order = [*batch, *rows, *columns]
    y = y.reshape([sizes[label] for label in order])
    return y.permute([order.index(label) for label in result])


def _labels(equation: str, *dimensions: int) -> tuple[str, str, str]:
    """The labels of both operands and of the result, with letters for what dots stand for."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    if len(terms) != 2:
        raise value_error("equation", "have terms for two operands", equation)
    free = [letter for letter in ascii_letters if letter not in equation]
    dots = max((n - len(t) + 3 for n, t in zip(dimensions, terms, strict=True) if "..." in t), default=0)
    meant = []
    for term, size in zip(terms, dimensions, strict=True):
        own = size - len(term) + 3
        labels = term.replace("...", "".join(free[max(dots - own, 0) : dots]))
        if len(labels) != size or not labels.isalpha():
            raise value_error("equation", f"have {size} labels in the term {term!r}", equation)
        if len({*labels}) < size:
            remedy = "Take the diagonal before."
            raise value_error("equation", "have no label twice in a term", equation, remedy)
        meant.append(labels)
    if not arrow:
        once = sorted(label for label in {*given} - {*",."} if given.count(label) == 1)
        result = ("..." if "..." in given else "") + "".join(once)
    result = result.replace("...", "".join(free[:dots]))
    if not {*result} <= {*meant[0], *meant[1]} or len({*result}) < len(result):
        raise value_error("equation", "have a result of labels of its operands, each once", equation)
    return meant[0], meant[1], result


def _own(x: Tensor, labels: str, others: set[str]) -> tuple[Tensor, str]:
    """An operand summed over what only it has, by the carrier as in torch, and the labels that are left."""
    alone = [i for i, label in enumerate(labels) if label not in others]
    kept = "".join(label for label in labels if label in others)
    return (x.sum(alone) if alone else x), kept
