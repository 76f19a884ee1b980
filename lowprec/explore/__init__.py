"""What does this format do to my tensor? Tables, searches and pictures; ``text`` has these for a terminal."""

from lowprec.explore import text as text
from lowprec.explore.bars import code_usage as code_usage
from lowprec.explore.bars import histogram as histogram
from lowprec.explore.codes import table as table
from lowprec.explore.compare import Comparison as Comparison
from lowprec.explore.compare import compare as compare
from lowprec.explore.lines import number_line as number_line
from lowprec.explore.lines import relative_error as relative_error
from lowprec.explore.lines import spacing as spacing
from lowprec.explore.rounding import staircase as staircase
from lowprec.explore.rounding import stochastic as stochastic
from lowprec.explore.search import search as search
