"""The definition, executable: exact rational arithmetic, slow, obviously right.

Kernels are proven against this package, so it imports none of them and shares none of their methods.
The order of every decision is that of the definition: the neighbors in the format continued past its
largest value (grid), the choice between them (rounding), then overflow (elements). Over a scale, which
comes first (scales), it is the exact quotient that is rounded so. Formats that list their values, and
posits, stop at their last ones (listed, posits).
"""

from lowprec.reference.arrays import overflowed as overflowed
from lowprec.reference.arrays import quantize as quantize
from lowprec.reference.arrays import scales as scales
from lowprec.reference.codes import code_of as code_of
from lowprec.reference.codes import decode as decode
from lowprec.reference.codes import encode as encode
from lowprec.reference.codes import value_of as value_of
from lowprec.reference.elementary import elementary as elementary
from lowprec.reference.grid import Neighbors as Neighbors
from lowprec.reference.grid import neighbors as neighbors
from lowprec.reference.noise import philox4x32 as philox4x32
from lowprec.reference.noise import random_word as random_word
from lowprec.reference.noise import random_words as random_words
from lowprec.reference.products import BlockScales as BlockScales
from lowprec.reference.products import product as product
from lowprec.reference.rounding import rounds_up as rounds_up
from lowprec.reference.scalar import quantize_scalar as quantize_scalar
