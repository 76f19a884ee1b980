"""Number formats as values: frozen, hashable, comparable, picklable; standard library and NumPy only."""

from lowprec.formats.block import BlockFloatingPoint as BlockFloatingPoint
from lowprec.formats.fixed import FixedPoint as FixedPoint
from lowprec.formats.floating import FloatingPoint as FloatingPoint
from lowprec.formats.format import Format as Format
from lowprec.formats.granularity import PerBlock as PerBlock
from lowprec.formats.granularity import PerChannel as PerChannel
from lowprec.formats.granularity import PerGroup as PerGroup
from lowprec.formats.granularity import PerTensor as PerTensor
from lowprec.formats.grouped import GroupedFormat as GroupedFormat
from lowprec.formats.info import finfo as finfo
from lowprec.formats.names import NAMED as NAMED
from lowprec.formats.names import FormatLike as FormatLike
from lowprec.formats.names import parse as parse
from lowprec.formats.names import resolve as resolve
from lowprec.formats.p3109 import P3109 as P3109
from lowprec.formats.p3109 import p3109 as p3109
from lowprec.formats.scaled import Scaled as Scaled
