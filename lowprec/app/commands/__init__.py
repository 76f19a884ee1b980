"""Commands of ``lowprec``, a module for each."""
