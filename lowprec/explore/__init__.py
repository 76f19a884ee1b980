"""What does this format do to my tensor? Tables, searches and pictures."""

from lowprec.explore.codes import table as table
from lowprec.explore.compare import Comparison as Comparison
from lowprec.explore.compare import compare as compare
from lowprec.explore.search import search as search
