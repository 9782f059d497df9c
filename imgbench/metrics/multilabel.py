"""Accuracies against sets of labels, on the host in float64.

All leave out the images that the label set leaves out: problematic ones, for
ReaL those with an empty set. They differ in the definition of a hit and in the
averaging.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses

import jax

from imgbench.metrics import counts as counts_lib

Field = Callable[[counts_lib.Counts], jax.Array]


@dataclasses.dataclass(frozen=True)
class Definition:
  """Definition of an accuracy by counts of original classes.

  Attributes:
    hits: counts -> integer [K], hits.
    count: counts -> integer [K], examples.
    class_mean: whether it is the mean over classes of hits / count, undefined
      if a class is empty; otherwise all hits over all examples.
    unreviewed: counts -> integer [K], examples with an unreviewed top-1
      prediction, which counts as wrong. None: everything is reviewed.
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

# Metric -> definition. Of the labels of `labels.label_errors`.
CORRECTED_DEFINITIONS: Mapping[str, Definition] = {
  "top1_accuracy.corrected": REAL_DEFINITIONS["real_accuracy"],
  "top1_accuracy.corrected_or_both": Definition(_lenient, _reviewed, False),
}
