"""What kernels refuse that the layers above never hand them."""

import numpy as np
import pytest

from lowprec.formats import BlockFloatingPoint
from lowprec.kernels import grouped, numbers, specialize
from lowprec.modes import Rounding


def test_kernels_of_elements_take_no_groups() -> None:
    message = "`format` must be a FloatingPoint, FixedPoint, Posit or TabledFormat, got <class .*BlockFl"
    with pytest.raises(TypeError, match=message):
        numbers.describe(BlockFloatingPoint(8), Rounding.NEAREST_EVEN, 32, "float32")


def test_kernels_of_groups_take_no_elements() -> None:
    with pytest.raises(TypeError, match=r"must be a BlockFloatingPoint or a Scaled, got <class .*Float"):
        grouped._resolved("e4m3fn")


def test_only_functions_are_copied_for_a_mode() -> None:
    with pytest.raises(TypeError, match=r"`function` must be a plain Python function, got <class 'numpy\.uf"):
        specialize.rebound(np.add, {})
