"""Property tests of number formats: checks for any of them, and hypothesis strategies."""

from lowprec.testing.failure import FormatError as FormatError
from lowprec.testing.failure import Report as Report
from lowprec.testing.formats import check_format as check_format
from lowprec.testing.hard import hard_values as hard_values
