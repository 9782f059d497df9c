"""Data sets, stored predictions and results for the papers' tables."""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from imgbench.metrics import outcomes as outcomes_lib

if TYPE_CHECKING:
  # The end of a run names sets of papers, also where pandas is not installed.
  from imgbench.tables import frame


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """The images of a public evaluation set, in the order of its files.

  Attributes:
    name: the public folder's, e.g. "imagenetv2-b-33".
    image_ids: str [N], distinct; prediction files may be keyed by them.
    labels: int32 [N] in [0, K), the original labels.
    class_names: K readable names.
    subsets: name -> bool [K], masks over original classes, without "all".
    path: file that it was read from.
  """

  name: str
  image_ids: np.ndarray
  labels: np.ndarray
  class_names: tuple[str, ...]
  subsets: Mapping[str, np.ndarray]
  path: pathlib.Path

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  def __len__(self) -> int:
    return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class RankedPredictions:
  """Predictions of one classifier for one data set.

  Attributes:
    model: its name.
    dataset: name of the data set.
    ranking: int16 [N, k], its first k classes for each image, the best first,
      in the order of the data set; -1, after the others, for none.
    path: file that it was read from.
  """

  model: str
  dataset: str
  ranking: np.ndarray
  path: pathlib.Path


@dataclasses.dataclass(frozen=True, eq=False)
class LabelSets:
  """Sets of accepted labels for the images of a data set.

  Attributes:
    kind: one of `summary.LABEL_SETS`.
    codes: int8 [N, K] of `labels.annotations`.
    left_out: bool [N], images that no accuracy against the sets counts.
    in_imagenet_m: bool [N], images of ImageNet-M; None: unknown.
    path: file that they were read from.
  """

  kind: str
  codes: np.ndarray
  left_out: np.ndarray
  in_imagenet_m: np.ndarray | None
  path: pathlib.Path


@dataclasses.dataclass(frozen=True, eq=False)
class ModelResult:
  """Results of one classifier on one data set.

  Attributes:
    model: its name.
    dataset: name of the data set.
    outcomes: NumPy arrays [N] in the order of the data set; see
      `metrics.outcomes`.
    measurements: for each subset ("all" first) each metric.
  """

  model: str
  dataset: str
  outcomes: outcomes_lib.Outcomes
  measurements: "frame.Measurements"
