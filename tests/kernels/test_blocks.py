"""Block-scaled products by the kernels, bit for bit as the definition says."""

import numpy as np
import pytest
from block_cases import assert_defined, multiplied, operands

from lowprec import Arithmetic

FORMATS = ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp4", "mxint8", "nvfp4", "scaled<e4m3fn,float32,group8,amax>"]


def test_try():
    rng = np.random.default_rng(0)
    for ends in (False, True):
        for name in FORMATS:
            a, b, scales = operands(rng, name, (2, 3, 41, 5, 16), ends=ends)
            assert_defined(a, b, Arithmetic("binary32", chunk="block"), scales)
