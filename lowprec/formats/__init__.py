"""Number formats as values: frozen, hashable, comparable, picklable; standard library and NumPy only."""

from lowprec.formats.block import BlockFloatingPoint as BlockFloatingPoint
from lowprec.formats.codebook import Binary as Binary
from lowprec.formats.codebook import Codebook as Codebook
from lowprec.formats.codebook import Ternary as Ternary
from lowprec.formats.fixed import FixedPoint as FixedPoint
from lowprec.formats.floating import FloatingPoint as FloatingPoint
from lowprec.formats.floating import PowerOfTwo as PowerOfTwo
from lowprec.formats.format import Format as Format
from lowprec.formats.granularity import PerBlock as PerBlock
from lowprec.formats.granularity import PerChannel as PerChannel
from lowprec.formats.granularity import PerGroup as PerGroup
from lowprec.formats.granularity import PerTensor as PerTensor
from lowprec.formats.grouped import GroupedFormat as GroupedFormat
from lowprec.formats.info import finfo as finfo
from lowprec.formats.logarithmic import Logarithmic as Logarithmic
from lowprec.formats.names import NAMED as NAMED
from lowprec.formats.names import FormatLike as FormatLike
from lowprec.formats.names import parse as parse
from lowprec.formats.names import register as register
from lowprec.formats.names import resolve as resolve
from lowprec.formats.p3109 import P3109 as P3109
from lowprec.formats.p3109 import p3109 as p3109
from lowprec.formats.posit import Posit as Posit
from lowprec.formats.scaled import Scaled as Scaled
from lowprec.formats.tabled import TabledFormat as TabledFormat
from lowprec.formats.uniform import UniformFormat as UniformFormat
