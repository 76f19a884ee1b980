"""Hypothesis strategies for formats, modes, and inputs that rounding code gets wrong.

All shrink toward few bits, few elements and plain values.
"""

try:
    import hypothesis as hypothesis
except ImportError as error:
    raise ImportError(
        '`hypothesis` must be installed for strategies. Install it with: pip install "lowprec[test]"'
    ) from error

from lowprec.testing.strategies.formats import formats as formats
from lowprec.testing.strategies.formats import granularities as granularities
from lowprec.testing.strategies.inputs import STRIDES as STRIDES
from lowprec.testing.strategies.inputs import codes as codes
from lowprec.testing.strategies.inputs import hard_values as hard_values
from lowprec.testing.strategies.inputs import random_bits as random_bits
from lowprec.testing.strategies.inputs import roundings as roundings
from lowprec.testing.strategies.inputs import tensors as tensors
from lowprec.testing.strategies.inputs import values as values
