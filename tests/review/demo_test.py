"""Tests of the check of make review-demo, on a small database."""

import contextlib

from tests.review import demo_check
from tests.review import sites


def test_all_pages_of_a_database_are_answered(tmp_path):
  path = tmp_path / "a.db"
  with contextlib.closing(sites.create(path, models=2)) as connection:
    sites.add_campaign(connection)
  assert demo_check.check(str(path)) > 30
