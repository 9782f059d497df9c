"""The named accuracies against sets of labels, on the host in float64.

All leave out what the label set leaves out: problematic images, for ReaL
images whose set is empty. They differ in what a hit is and in how hits are
averaged.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses

import jax

from imgbench.metrics import counts as counts_lib

Field = Callable[[counts_lib.Counts], jax.Array]


@dataclasses.dataclass(frozen=True)
class Definition:
  """A way to make one number of the counts by original class.

  Attributes:
    hits: counts -> integer [K], the hits it counts.
    count: counts -> integer [K], the examples it counts.
    class_mean: the mean over classes of hits / count, which is undefined if a
      class has no example; else all hits over all examples.
    unreviewed: counts -> integer [K], the examples whose top-1 prediction
      nobody has reviewed; they count as wrong. None: nothing is unreviewed.
  """

  hits: Field
  count: Field
  class_mean: bool
  unreviewed: Field | None = None


_reviewed: Field = lambda counts: counts.reviewed_count
_lenient: Field = lambda counts: counts.lenient_hits
_unreviewed: Field = lambda counts: counts.unreviewed

# The sources: icml2020, Shankar et al., "Evaluating Machine Accuracy on
# ImageNet" (2020); tfds, the documentation of TFDS's imagenet2012_multilabel
# 3.0.0; imagenet_m, Vasudevan et al., "When does dough become a bagel?" (2022).
DEFINITIONS: Mapping[str, Definition] = {
  "icml2020": Definition(
    hits=lambda counts: counts.strict_hits(),
    count=_reviewed,
    class_mean=False,
    unreviewed=_unreviewed,
  ),
  "tfds": Definition(
    hits=_lenient,
    count=_reviewed,
    class_mean=True,
    unreviewed=_unreviewed,
  ),
  "imagenet_m": Definition(
    hits=lambda counts: counts.imagenet_m_hits,
    count=lambda counts: counts.imagenet_m_count,
    class_mean=False,
    unreviewed=lambda counts: counts.imagenet_m_unreviewed,
  ),
  "lenient_mean": Definition(
    hits=_lenient,
    count=_reviewed,
    class_mean=False,
    unreviewed=_unreviewed,
  ),
}

# Metric -> definition. Beyer et al., "Are we done with ImageNet?" (2020).
REAL_DEFINITIONS: Mapping[str, Definition] = {
  "real_accuracy": Definition(
    hits=lambda counts: counts.strict_hits(),
    count=_reviewed,
    class_mean=False,
  ),
  "real_top5_accuracy": Definition(
    hits=lambda counts: counts.strict_hits(5),
    count=_reviewed,
    class_mean=False,
  ),
  "real_accuracy.class_mean": Definition(
    hits=lambda counts: counts.strict_hits(),
    count=_reviewed,
    class_mean=True,
  ),
}
