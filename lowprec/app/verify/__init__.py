"""``lowprec verify``: what is proven about the kernels, on how many inputs, against which oracle."""
