"""Tests of the training curves: which panels there are."""

from imgbench.report import figures
from imgbench.tables import themes
from tests.report import samples


def titles(records) -> list[str]:
  figure = figures.draw_curves(themes.LIGHT, records)
  return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_mfu_has_a_panel_where_it_was_logged():
  records = samples.records(1000, ["val"])
  without = titles(records)
  assert "Images per second" in without and "MFU" not in without
  with_mfu = [record | {"train/mfu": 0.4} for record in records]
  assert titles(with_mfu) == [*without, "MFU"]
