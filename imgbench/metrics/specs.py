"""Registry of metrics: label, unit, direction and definition of each name.

A metric of results.json is a registered name, or one followed by a variant
(`VARIANTS`): "top1_accuracy.class_mean", "multilabel_accuracy.tfds.drop".
Adding a metric takes an entry here and the line of `summary` that computes it;
a mean over examples needs `Metric.of_examples` only.
"""

from collections.abc import Callable
import dataclasses
import re
from typing import Any

from imgbench import errors
from imgbench import registry

# Units: a rate is a fraction in [0, 1], shown in percent in tables; points are
# a difference of two rates; a count is a whole number; an error may be small.
RATE, POINTS, COUNT, NUMBER = "rate", "points", "count", "number"
ERROR, DECIBEL = "error", "decibel"
HIGHER, LOWER = "higher", "lower"

# Clause of definitions where predictions use test-time augmentation.
MIRRORED = "logits averaged over an image and its mirror"
AUGMENTED = "with test-time augmentation (horizontal flip)"

RULES = "(ties go to the lowest class, scores not finite are wrong)"


@dataclasses.dataclass(frozen=True)
class Metric:
  """Static facts about a metric.

  Attributes:
    label: name in text and titles, e.g. "top-1 accuracy".
    definition: sentence fragment; a measurement may add to it, e.g. the number
      of classes left out.
    unit: one of those above.
    better: HIGHER or LOWER.
    accuracy: whether it is a share of hits, at k or against label sets.
      Balanced accuracy is not: it is listed with the recalls.
    label_set: whether it is an accuracy against several labels of an image.
    headline: whether it is an accuracy worth a chart or a tile.
    main: whether the first table of a report shows it with the accuracies.
    selects: whether it can select the best checkpoint.
    of_examples: (logits float32 [B, K], label int32 [B]) -> [B], the values
      whose mean evaluators report: of bool as a share with an exact interval.
      None: computed elsewhere.
  """

  label: str
  definition: str = ""
  unit: str = RATE
  better: str = HIGHER
  accuracy: bool = False
  label_set: bool = False
  headline: bool = False
  main: bool = False
  selects: bool = False
  of_examples: Callable | None = None


METRICS: registry.Registry[Metric] = registry.Registry("metric")

# Suffix of a metric's name -> the attributes it changes.
_NO_ACCURACY = dict.fromkeys(
  ("accuracy", "label_set", "headline", "main", "selects"), False
)
VARIANTS: dict[str, dict[str, Any]] = {
  "class_mean": {"headline": False},
  "unreviewed": _NO_ACCURACY,
  "bound_low": _NO_ACCURACY,
  "bound_high": _NO_ACCURACY,
  "base": _NO_ACCURACY,
  "drop": {**_NO_ACCURACY, "unit": POINTS, "better": LOWER},
}
_TOP_K = re.compile(r"top(\d+)_accuracy")


def top_k_accuracy(k: int) -> Metric:
  """Returns the metric "top<k>_accuracy"."""
  place = (
    "has the highest score" if k == 1 else f"is among the {k} highest scores"
  )
  return Metric(
    f"top-{k} accuracy",
    f"share of examples whose label {place} {RULES}",
    accuracy=True,
    headline=True,
    selects=k in (1, 5),
  )


for _k in (1, 5):
  METRICS.register(f"top{_k}_accuracy", top_k_accuracy(_k))
METRICS.register(
  "top1_accuracy.class_mean",
  Metric(
    "top-1 accuracy",
    "mean over classes of the share of their examples whose label has the"
    f" highest score {RULES}",
    accuracy=True,
  ),
)
_LENIENT = (
  "top-1 prediction is a correct or an unclear label of the reviewed label set"
)
_REVIEWED = {
  "icml2020": "share of images, without problematic ones, whose top-1"
  " prediction is a correct label of the reviewed label set",
  "tfds": "mean over the original classes of the share of their images, without"
  f" problematic ones, whose {_LENIENT}",
  "imagenet_m": "share of ImageNet-M's images, without problematic ones, whose"
  f" {_LENIENT}",
  "lenient_mean": "share of images, without problematic ones, whose"
  f" {_LENIENT}",
}
for _name, _text in _REVIEWED.items():
  METRICS.register(
    f"multilabel_accuracy.{_name}",
    Metric(
      "multi-label accuracy",
      _text,
      accuracy=True,
      label_set=True,
      headline=True,
      selects=True,
    ),
  )
_REAL = "of images with at least one ReaL label (Beyer et al. 2020),"
_REAL_TOP1 = f"{_REAL} whose top-1 prediction is one of them"
for _name, _text in {
  "real_accuracy": f"share {_REAL_TOP1}",
  "real_top5_accuracy": f"share {_REAL} one of which is among the five highest"
  " scores",
  "real_accuracy.class_mean": "mean over the original classes of the share"
  f" {_REAL_TOP1}",
}.items():
  METRICS.register(
    _name,
    Metric(
      "ReaL top-5 accuracy" if "top5" in _name else "ReaL accuracy",
      _text,
      accuracy=True,
      label_set=True,
      headline="." not in _name,
    ),
  )

_CORRECTED = (
  "share of images whose top-1 prediction is the label that at least three of"
  " five workers say, or else the given one, without those of neither label"
)
for _name, _text in ("", ""), ("_or_both", ", with both where they say so"):
  METRICS.register(
    f"top1_accuracy.corrected{_name}",
    Metric("top-1 accuracy", _CORRECTED + _text, accuracy=True, headline=True),
  )
METRICS.register(
  "nll",
  Metric(
    "negative log-likelihood",
    "mean negative natural logarithm of the label's probability over examples"
    " with finite scores",
    NUMBER,
    LOWER,
    main=True,
  ),
)
METRICS.register(
  "brier",
  Metric(
    "Brier score",
    "mean over examples with finite scores of the squared differences between"
    " probabilities and label, summed over classes (0 to 2)",
    NUMBER,
    LOWER,
  ),
)
NUM_BINS = 15
EQUAL_WIDTH, EQUAL_MASS = "equal_width", "equal_mass"
BINNINGS = {"ece": EQUAL_WIDTH, "ece.equal_mass": EQUAL_MASS}
for _name, _binning in BINNINGS.items():
  METRICS.register(
    _name,
    Metric(
      "expected calibration error",
      "mean over examples with finite scores of |accuracy - mean confidence|"
      f" in {NUM_BINS} bins of {_binning.replace('_', ' ')} of the"
      " top-1 probability",
      NUMBER,
      LOWER,
      main=_name == "ece",
    ),
  )
METRICS.register(
  "temperature",
  Metric(
    "temperature",
    "T of softmax(logits / T) of highest likelihood on a random half of the"
    " examples (seed 0)",
    NUMBER,
  ),
)
SCALED = {"unscaled": "before", "scaled": "after"}
SCALING = ("temperature", *(f"{m}.{v}" for m in ("nll", "ece") for v in SCALED))
for _name in SCALING[1:]:
  _base, _, _variant = _name.partition(".")
  _text = f", {SCALED[_variant]} temperature scaling, of the other half only"
  _text = METRICS[_base].definition + _text
  METRICS.register(
    _name, dataclasses.replace(METRICS[_base], definition=_text, main=False)
  )
METRICS.register(
  "non_finite",
  Metric(
    "not finite",
    "number of examples whose scores are not finite",
    COUNT,
    LOWER,
  ),
)
METRICS.register(
  "skipped",
  Metric(
    "skipped",
    "number of examples that are in no other result, as their record or image"
    " is damaged",
    COUNT,
    LOWER,
  ),
)

RATES = {
  "precision": "right predictions of a class over its predictions",
  "recall": "right predictions of a class over its examples",
  "f1": "twice the right predictions of a class over its predictions plus its"
  " examples",
}
MEANS = {
  "macro": ", plain mean over classes",
  "weighted": ", mean over classes weighted by their numbers of examples",
  "micro": ", sums over all classes divided once",
}
for _mean, _mean_text in MEANS.items():
  for _rate, _rate_text in RATES.items():
    METRICS.register(
      f"{_mean}_{_rate}",
      Metric(
        f"{_mean} {_rate.replace('f1', 'F1')}",
        _rate_text + _mean_text,
        main=(_mean, _rate) == ("macro", "f1"),
        selects=_mean == "macro" and _rate != "precision",
      ),
    )
METRICS.register(
  "balanced_accuracy",
  Metric("balanced accuracy", METRICS["macro_recall"].definition),
)
METRICS.register(
  "cohen_kappa",
  Metric(
    "Cohen's kappa",
    "Cohen's kappa: (accuracy - chance) / (1 - chance), chance being the"
    " agreement of labels and predictions drawn apart",
    NUMBER,
  ),
)
# One class against the rest, averaged over the classes that have both.
METRICS.register(
  "macro_average_precision",
  Metric(
    "macro average precision",
    "area under the precision-recall curve (average precision, not"
    " interpolated)",
    NUMBER,
    main=True,
  ),
)
METRICS.register(
  "macro_roc_auc",
  Metric("macro ROC AUC", "area under the ROC curve", NUMBER),
)
METRICS.register(
  "classwise_ece",
  Metric(
    "class-wise expected calibration error",
    "mean over examples of |frequency - mean probability| in"
    f" {NUM_BINS} bins of equal width",
    NUMBER,
    LOWER,
  ),
)

# Of reconstructed images.
_PIXELS = "of the images' and the reconstructions' pixels, on a scale of [0, 1]"
for _name, _metric in {
  "mse": Metric(
    "mean squared error",
    f"mean over images of the mean squared difference {_PIXELS}",
    ERROR,
    LOWER,
    main=True,
    selects=True,
  ),
  "mae": Metric(
    "mean absolute error",
    f"mean over images of the mean absolute difference {_PIXELS}",
    ERROR,
    LOWER,
    selects=True,
  ),
  "psnr": Metric(
    "PSNR",
    "mean over images of 10 log10(1 / mean squared difference) in dB,"
    f" {_PIXELS}",
    DECIBEL,
    main=True,
    selects=True,
  ),
  "anomaly_roc_auc": Metric(
    "anomaly ROC AUC",
    "area under the ROC curve: share of pairs of an abnormal and a normal"
    " image in which the abnormal one has the larger mean squared error",
    NUMBER,
    main=True,
    selects=True,
  ),
  "anomaly_average_precision": Metric(
    "anomaly average precision",
    "area under the precision-recall curve (average precision, not"
    " interpolated) of abnormal images by mean squared error",
    NUMBER,
    main=True,
  ),
  "anomaly_overlap": Metric(
    "overlap of errors",
    "sum over bins, each with a twentieth of the images by mean squared error,"
    " of the smaller of the shares of normal and of abnormal images in it",
    better=LOWER,
  ),
  "anomaly_threshold": Metric(
    "anomaly threshold",
    "mean squared error above which images are flagged",
    ERROR,
    LOWER,
  ),
  "anomaly_recall": Metric(
    "anomaly recall", "flagged abnormal images over abnormal images", main=True
  ),
  "anomaly_precision": Metric(
    "anomaly precision",
    "flagged abnormal images over flagged images",
    main=True,
  ),
  "anomaly_f1": Metric(
    "anomaly F1",
    "twice the flagged abnormal images over flagged plus abnormal images",
  ),
}.items():
  METRICS.register(_name, _metric)


def compute_example_values(logits, label) -> dict[str, Any]:
  """Returns name -> values [B] of the metrics that are means over examples."""
  found = {
    name: metric.of_examples(logits, label)
    for name, metric in METRICS.items()
    if metric.of_examples is not None
  }
  for name, values in found.items():
    if values.shape != label.shape:
      expected = f"values {list(label.shape)}, one per example"
      raise errors.InputError(f"metric {name}", expected, list(values.shape))
  return found


def describe(metric: str) -> Metric:
  """Returns the facts about a metric or a variant.

  An unknown name is a plain number with its name as label, never a percentage.
  """
  found = _find(metric)
  variant = metric.partition(".")[2]
  if not variant:
    return found
  words = variant.replace("imagenet_m", "ImageNet-M").replace("_", " ")
  return dataclasses.replace(found, label=f"{found.label} ({words})")


def _find(metric: str) -> Metric:
  if metric in METRICS:
    return METRICS[metric]
  top_k = _TOP_K.fullmatch(metric)
  if top_k:
    return top_k_accuracy(int(top_k[1]))
  base, _, variant = metric.rpartition(".")
  if base and variant in VARIANTS:
    return dataclasses.replace(_find(base), **VARIANTS[variant])
  name = metric.partition(".")[0]
  better = METRICS[name].better if name in METRICS else HIGHER
  return Metric(name.replace("_", " "), unit=NUMBER, better=better)


def rank(metric: str) -> tuple[int, int]:
  """Returns the sort key of a metric in tables.

  Top-1 and top-5 accuracy first, then other headlines, accuracies, the rest.
  """
  found, first = describe(metric), ("top1_accuracy", "top5_accuracy")
  kind = 0 if found.headline else 1 if found.accuracy else 2
  return kind, first.index(metric) if metric in first else len(first)


def is_better(metric: str, value: float, than: float) -> bool:
  """Returns whether a value of a metric is better than another one."""
  return value > than if describe(metric).better == HIGHER else value < than
