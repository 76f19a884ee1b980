"""Loops that round: one scalar source, compiled by Numba."""
