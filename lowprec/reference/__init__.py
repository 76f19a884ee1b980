"""The definition, executable: what every kernel is proven against; never imported by one."""

from lowprec.reference.noise import philox4x32 as philox4x32
from lowprec.reference.noise import random_word as random_word
from lowprec.reference.noise import random_words as random_words
from lowprec.reference.rounding import Neighbours as Neighbours
from lowprec.reference.rounding import neighbours as neighbours
from lowprec.reference.rounding import overflowed as overflowed
from lowprec.reference.rounding import quantize as quantize
from lowprec.reference.rounding import quantize_scalar as quantize_scalar
from lowprec.reference.rounding import rounds_up as rounds_up
