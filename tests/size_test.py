"""Tests of the size report."""

from tests import size

SOURCE = '''"""Docstring

of three lines."""

# A comment.
import os  # code


def f(x):
  """Docstring."""
  text = """a string,

  not a docstring"""
  # Another comment.
  return x, text, os
'''


def test_each_line_has_one_kind():
  counts = size.count_lines(SOURCE)
  assert counts == {"code": 6, "docstring": 4, "comment": 2, "blank": 3}
  assert counts.total() == len(SOURCE.splitlines())


def test_the_packages_are_those_of_the_product():
  counts = size.count_packages(size.ROOT)
  assert {"imgbench", "imgbench/metrics", "configs"} <= set(counts)
  assert all(set(kinds) <= set(size.KINDS) for kinds in counts.values())
