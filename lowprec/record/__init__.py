"""record: what happened inside, counted for each layer and role, step by step."""

from lowprec.record.breaks import Break as Break
from lowprec.record.counters import Counters as Counters
from lowprec.record.moments import Moments as Moments
from lowprec.record.recording import Recording as Recording
from lowprec.record.watch import record as record
