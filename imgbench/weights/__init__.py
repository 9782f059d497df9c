"""Weights of other libraries: files, names as data, conversion both ways."""
