"""Rules of thumb: which results are good, typical or bad.

They are limits of the project's requirements, not of a paper, and compare no
models: intervals and paired differences do.
"""

import functools
import re

from imgbench.metrics import specs

# Name of a data set ("": any), metric; limits of bad and of good results; up to
# the last one they are good for simple models only. None: not stated.
BANDS = (
  ("cifar10", "top1_accuracy", 0.70, 0.85, 0.95),
  ("imagenet2012", "top1_accuracy", 0.50, 0.75, None),
  ("imagenet2012", "top5_accuracy", None, 0.90, None),
  *(("", rate, None, 0.80, None) for rate in specs.RATES),
  ("", "mse", None, 0.001, None),
)


def find(
  key: str, subset: str, metric: str, value: float | None, synthetic=()
) -> str:
  """Returns the band of a result; "" if none is stated for it.

  Args:
    key: of the data set, e.g. "cifar10:test"; one of `synthetic` has no name.
    subset: of classes; bands are those of all.
    metric: name; precision, recall and f1 are those of a class.
    value: rates are fractions; None: undefined.
    synthetic: keys, a sequence.
  """
  if value is None or subset != "all":
    return ""
  names = "", "" if key in synthetic else re.split(r"[+:]", key)[0]
  better = functools.partial(specs.is_better, metric)
  for name, of_metric, bad, good, strong in BANDS:
    if name in names and of_metric == metric.removeprefix("macro_"):
      if better(value, good):
        simple = strong is not None and not better(value, strong)
        return "good for simple models" if simple else "good"
      if bad is None:
        return "not good"
      return "bad" if better(bad, value) else "typical"
  return ""
