"""The example of docs/metrics.md runs as it stands there."""

import pathlib
import re

from imgbench.metrics import counts
from imgbench.metrics import diagnostics
from imgbench.metrics import multilabel

TEXT = pathlib.Path(__file__).parents[2].joinpath("docs/metrics.md").read_text()


def test_the_example_runs(capsys):
  (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
  exec(compile(code, "docs/metrics.md", "exec"), {})
  correct, n, *rates = map(float, capsys.readouterr().out.split())
  assert n == 4 * 118
  value, low, high = rates
  assert low <= value == correct / n <= high


def test_every_setting_and_definition_is_listed():
  for name in multilabel.DEFINITIONS:
    assert f"multilabel_accuracy.{name}" in TEXT
  for name in multilabel.REAL_DEFINITIONS:
    assert f"`{name}`" in TEXT
  for field, default in vars(diagnostics.Thresholds()).items():
    rows = [line for line in TEXT.splitlines() if f"`{field}`" in line]
    assert any(f"| {default} |" in row for row in rows), field
  assert counts.empty(3).ks == (1, 5)
