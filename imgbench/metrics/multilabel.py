"""The named definitions of multi-label accuracy, on the host in float64.

All take the top-1 prediction and leave problematic images out. They differ in
what a hit is and in how hits are averaged.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses

import numpy as np

from imgbench.metrics import counts as counts_lib


@dataclasses.dataclass(frozen=True)
class Definition:
  """A way to make one number of the counts by original class.

  Attributes:
    hits: counts -> integer [K], the hits it counts.
    count: counts -> integer [K], the examples it counts.
    class_mean: the mean over classes of hits / count, which is undefined if a
      class has no example; else all hits over all examples.
    text: one sentence, without a full stop.
  """

  hits: Callable[[counts_lib.Counts], np.ndarray]
  count: Callable[[counts_lib.Counts], np.ndarray]
  class_mean: bool
  text: str


_LENIENT = (
  "top-1 prediction is a correct or an unclear label of the reviewed label set"
)

# tfds: the documentation of TFDS's imagenet2012_multilabel, version 3.0.0.
DEFINITIONS: Mapping[str, Definition] = {
  "tfds": Definition(
    hits=lambda counts: counts.lenient_hits,
    count=lambda counts: counts.reviewed_count,
    class_mean=True,
    text=(
      "mean over the original classes of the share of their images, without"
      f" problematic ones, whose {_LENIENT}"
    ),
  ),
  "lenient_mean": Definition(
    hits=lambda counts: counts.lenient_hits,
    count=lambda counts: counts.reviewed_count,
    class_mean=False,
    text=f"share of images, without problematic ones, whose {_LENIENT}",
  ),
}
