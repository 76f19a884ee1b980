"""``lowprec bench``: how fast everything is, beside a copy, a floor and other packages."""
