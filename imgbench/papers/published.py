"""Published figures, read from CSV files of several layouts.

A file is recognized by its header. Lines before it that begin with "#" are
comments. Besides the layouts of _LAYOUTS, those of published files, timm's
results-*.csv, whose data set the file's name tells, and those of Peychev
et al. 2023, there is the long form, which our own table.csv has:

  model,dataset,subset,metric,value[,ci_low,ci_high][,rank][,n,correct]

with fractions, or value_percent, ci_low_percent and ci_high_percent. An empty
cell is no figure; n and correct are not compared. The precision of a figure is
half a unit of its last digit.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import decimal
import pathlib
from typing import NamedTuple

import numpy as np

from imgbench import errors
from imgbench.papers.readers import cifar
from imgbench.papers.readers import datasets
from imgbench.tables import frame
from imgbench.tables import table

VALUE, CI_LOW, CI_HIGH, RANK = "value", "ci_low", "ci_high", "rank"
DROP, ERROR_RATIO = "drop", "error_ratio"
OF_FIT = SLOPE, INTERCEPT, R = "slope", "intercept", "r"
FIT = "linear fit"  # the model of figures of a fit

# Fields of plain numbers; all others are in percent.
_PLAIN = (RANK, ERROR_RATIO, SLOPE, R, "count")

_VAL, _MF = datasets.VALIDATION, datasets.MATCHED_FREQUENCY
_TOP1, _TOP5 = "top1_accuracy", "top5_accuracy"
_ICML = "multilabel_accuracy.icml2020"


class FigureKey(NamedTuple):
  """Identifies a published figure, or ours to compare with it.

  `field` is that of a row of the table, or "rank", "drop", "error_ratio",
  "slope", "intercept", "r". For a fit, `dataset` is the one on the y axis.
  """

  model: str
  dataset: str
  subset: str
  metric: str
  field: str


@dataclasses.dataclass(frozen=True)
class PublishedFigure:
  """A published figure.

  Attributes:
    source: name of the file.
    key: of the quantity.
    text: as printed.
    number: percent, or a plain number for ranks, ratios and slopes.
    half_unit: greatest rounding error of `number`, in the same unit.
    not_counted: why ours may differ; empty: it may not.
  """

  source: str
  key: FigureKey
  text: str
  number: float
  half_unit: float
  not_counted: str = ""


class _Target(NamedTuple):
  """The quantity in a column."""

  dataset: str
  metric: str
  field: str = VALUE
  not_counted: str = ""  # as in PublishedFigure, for the whole column


@dataclasses.dataclass(frozen=True)
class _Layout:
  """Layout of a file with one column for each figure.

  Attributes:
    targets: columns of the header -> the quantity, None for no figure.
    model: column with the name of the model; None: figures of a fit.
    float32: numbers are float32, printed in full.
    not_counted: row -> why its figures may differ; empty: they may not.
  """

  targets: Mapping[str, _Target | None]
  model: str | None = "model"
  float32: bool = False
  not_counted: Callable[[Mapping[str, str]], str] = lambda row: ""

  @property
  def columns(self) -> tuple[str, ...]:
    return tuple(self.targets)


# Names of subsets in the files of Shankar et al. 2020 -> ours.
_SUBSETS = {"objects": "object", "no_dogs": "not_dog"}

_LAYOUTS = (
  _Layout(  # Recht et al. 2019, main table.
    {
      "model": None,
      "val_top1": _Target(_VAL, _TOP1),
      "val_low": _Target(_VAL, _TOP1, CI_LOW),
      "val_high": _Target(_VAL, _TOP1, CI_HIGH),
      "matched_frequency_top1": _Target(_MF, _TOP1),
      "mf_low": _Target(_MF, _TOP1, CI_LOW),
      "mf_high": _Target(_MF, _TOP1, CI_HIGH),
      "val_rank_of_67": _Target(_VAL, _TOP1, RANK),
      "accuracies_confirmed_by_a_second_public_text": None,
    },
  ),
  _Layout(  # modestyachts/imagenet-testbed.
    {
      "model": None,
      "val": _Target(_VAL, _TOP1),
      "imagenetv2-matched-frequency": _Target(_MF, _TOP1),
    },
    float32=True,
  ),
  _Layout(  # huggingface/pytorch-image-models, the same weights.
    {
      "model": None,
      "timm_model": None,
      "img_size": None,
      "same_preprocessing": None,
      "timm_val_top1": _Target(_VAL, _TOP1),
      "timm_val_top5": _Target(_VAL, _TOP5),
      "timm_real_top1": _Target(_VAL, "real_accuracy"),
      "timm_real_top5": _Target(_VAL, "real_top5_accuracy"),
      # timm reads ImageNetV2 from other JPEG files.
      "timm_v2mf_top1": _Target(_MF, _TOP1, not_counted="other JPEG files"),
      "timm_v2mf_top5": _Target(_MF, _TOP5, not_counted="other JPEG files"),
    },
    not_counted=lambda row: (
      "" if row["same_preprocessing"] == "yes" else "other preprocessing"
    ),
  ),
  _Layout(  # Shankar et al. 2020, humans and models on the humans' images.
    {
      **dict.fromkeys(("subset", "classifier", "kind")),
      "val": _Target(_VAL, _ICML),
      "v2": _Target(_MF, _ICML),
    },
    model="classifier",
  ),
  _Layout(  # Shankar et al. 2020, fits of the models; MatchedFrequency is y.
    {"subset": None} | {f: _Target(_MF, _ICML, f) for f in OF_FIT},
    model=None,
  ),
)

# huggingface/pytorch-image-models, results/results-NAME.csv.
_TIMM_RESULTS = ("model", "img_size", "top1", "top1_err", "top5", "top5_err")
_PLAIN_METRICS = (_TOP1, _TOP5)
_TIMM_SETS = {
  "imagenet": (_VAL, _PLAIN_METRICS, ""),
  "imagenet-real": (_VAL, ("real_accuracy", "real_top5_accuracy"), ""),
  "imagenetv2-matched-frequency": (_MF, _PLAIN_METRICS, "other JPEG files"),
  "imagenet-a": (datasets.ADVERSARIAL, _PLAIN_METRICS, ""),
  "imagenet-r": (datasets.RENDITIONS, _PLAIN_METRICS, ""),
}

# eth-sri/automated-error-analysis, non_problematic_stats_all.csv.
_ETH = ("model_dir_id", "num_params", "training_data")
_ETH_OTHER_WEIGHTS = (
  *("inception_v3", "resnet50", "resnet101", "resnet152"),
  "resnext101_64x4d",
)

_LONG = ("model", "dataset", "subset", "metric")
_LONG_FIGURES = {
  f"{field}{unit}": field
  for field in (VALUE, CI_LOW, CI_HIGH)
  for unit in ("", "_percent")
} | {RANK: RANK}
_LONG_OTHERS = ("n", "correct")

_CIFAR = (
  "source",
  "section",
  "model",
  "name_in_source",
  "quantity",
  "published",
  "as_stated",
  "computed",
  "difference",
  "tolerance",
  "agrees",
  "note",
)
# Names of quantities there -> (data set, field).
CIFAR_QUANTITIES = {
  "original_acc": (cifar.TEST, VALUE),
  "v4_acc": (cifar.V4, VALUE),
  "v4_gap": (cifar.V4, DROP),
  "v4_error_ratio": (cifar.V4, ERROR_RATIO),
  "slope": (cifar.V4, SLOPE),
  "intercept": (cifar.V4, INTERCEPT),
}


def is_plain(field: str) -> bool:
  """Returns whether figures of a field are plain numbers, not percent."""
  # E.g. "lowest v4_error_ratio", of several models together.
  return field in _PLAIN or field.endswith((ERROR_RATIO, "count"))


def read(path: pathlib.Path) -> list[PublishedFigure]:
  """Returns the figures of a file, in its order.

  Args:
    path: CSV of one of the known layouts.

  Raises:
    InputError: no CSV, an unknown header, a cell that is no number or an
      impossible one (a share above the whole, half a rank), a line of another
      length, no figure, two figures with one key.
  """
  (_, header), *numbered = _read_cells(path)
  header = tuple(header)
  reader = _find_reader(path, header)
  found = []
  for number, cells in numbered:
    where = f"{path}, line {number}"
    if len(cells) != len(header):
      raise errors.InputError(where, f"{len(header)} cells", len(cells))
    row = dict(zip(header, cells, strict=True))
    found += [
      dataclasses.replace(figure, source=pathlib.Path(path).name)
      for figure in reader(where, row)
    ]
  _check_distinct(path, found, header)
  return found


def _read_cells(path: pathlib.Path) -> list[tuple[int, list[str]]]:
  """Returns lines with their numbers, the header first, without comments."""
  try:
    lines = pathlib.Path(path).read_text(encoding="utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise errors.InputError(path, "a CSV file in UTF-8", error) from error
  skipped = 0
  while skipped < len(lines) and lines[skipped].startswith("#"):
    skipped += 1
  rows = csv.reader(lines[skipped:])
  try:
    # Our own table.csv marks names that a spreadsheet takes for formulas.
    found = [
      (skipped + rows.line_num, list(map(table.unescape_formula, cells)))
      for cells in rows
    ]
  except csv.Error as error:
    where = f"{path}, line {skipped + rows.line_num}"
    raise errors.InputError(where, "CSV", error) from error
  return found or [(1, [])]


def _find_reader(path, header: tuple[str, ...]):
  """Returns the parser of a line for a header: (where, row) -> figures."""
  if header[: len(_TIMM_RESULTS)] == _TIMM_RESULTS:
    targets = _find_timm_targets(pathlib.Path(path))
    return lambda where, row: _timm_figures(targets, where, row)
  if header == _CIFAR:
    return _cifar_figures
  if header[: len(_ETH)] == _ETH and "mla_all" in header:
    return _eth_figures
  for layout in _LAYOUTS:
    if header == layout.columns:
      return lambda where, row: _layout_figures(layout, where, row)
  known = {*_LONG, *_LONG_FIGURES, *_LONG_OTHERS}
  if (
    header[: len(_LONG)] == _LONG
    and set(header) <= known
    and set(header) & set(_LONG_FIGURES)
    and len(set(header)) == len(header)
  ):
    return _long_figures
  layouts = [layout.columns for layout in _LAYOUTS] + [
    _CIFAR,
    frame.COLUMNS,
  ]
  texts = "; ".join(",".join(columns) for columns in layouts)
  raise errors.InputError(
    path,
    f"one of the headers {texts} (value_percent, ci_low_percent and"
    " ci_high_percent for percent)",
    ",".join(header) or "none",
  )


def _layout_figures(
  layout: _Layout, where: str, row: Mapping[str, str]
) -> Iterator[PublishedFigure]:
  model = FIT if layout.model is None else _read_name(where, row, layout.model)
  subset = row.get("subset", "all")
  for column, target in layout.targets.items():
    if target and row[column]:
      key = FigureKey(
        model,
        target.dataset,
        _SUBSETS.get(subset, subset),
        target.metric,
        target.field,
      )
      number = _parse_figure(
        f"{where}: {column}", row[column], target.field, 100
      )
      half = _half_unit(row[column], target.field)
      if layout.float32:
        half = float(np.spacing(np.float32(number)))
      why = target.not_counted or layout.not_counted(row)
      yield PublishedFigure("", key, row[column], number, half, why)


def _find_timm_targets(path: pathlib.Path) -> dict[str, _Target]:
  """Returns the quantities of a results file of timm, by its name."""
  name = path.stem.rpartition("results-")[2]
  if name not in _TIMM_SETS:
    known = ", ".join(f"results-{name}.csv" for name in _TIMM_SETS)
    raise errors.InputError(path, f"a name that ends in {known}", path.name)
  dataset, metrics, why = _TIMM_SETS[name]
  return {
    column: _Target(dataset, metric, not_counted=why)
    for column, metric in zip(("top1", "top5"), metrics, strict=True)
  }


def _timm_figures(
  targets: Mapping[str, _Target], where: str, row: Mapping[str, str]
) -> Iterator[PublishedFigure]:
  """Yields the figures of a model at one size of images, MODEL:SIZE."""
  layout = _Layout({"model": None, **targets})
  model = _read_name(where, row, "model")
  size = _read_name(where, row, "img_size")
  yield from _layout_figures(layout, where, row | {"model": f"{model}:{size}"})


def _eth_figures(
  where: str, row: Mapping[str, str]
) -> Iterator[PublishedFigure]:
  """Yields the multi-label accuracy of a model, floats printed in full."""
  model = row["model_dir_id"].removeprefix("torchvision--")
  why = "other weights" if model in _ETH_OTHER_WEIGHTS else ""
  target = _Target(_VAL, "multilabel_accuracy.tfds", not_counted=why)
  layout = _Layout({"model": None, "mla_all": target}, float32=True)
  yield from _layout_figures(layout, where, row | {"model": model})


def _long_figures(
  where: str, row: Mapping[str, str]
) -> Iterator[PublishedFigure]:
  for column, field in _LONG_FIGURES.items():
    if row.get(column):
      what = (_read_name(where, row, name) for name in _LONG)
      whole = 100 if column.endswith("_percent") else 1
      number = _parse_figure(f"{where}: {column}", row[column], field, whole)
      half = _half_unit(row[column], field)
      scale = 1 if field == RANK else 100 // whole
      yield PublishedFigure(
        "", FigureKey(*what, field), row[column], scale * number, scale * half
      )


def _cifar_figures(
  where: str, row: Mapping[str, str]
) -> Iterator[PublishedFigure]:
  """Yields figures with a tolerance; without one it is a loose statement.

  The field of a quantity that combines several models is its name.
  """
  try:
    number = _parse_number(where, row["published"])
  except errors.InputError:  # "98.4 / 95.5 / 2.9", of an absent model
    return
  quantity = row["quantity"]
  dataset, field = CIFAR_QUANTITIES.get(quantity, ("", quantity))
  model = (
    FIT if field in (SLOPE, INTERCEPT) else _read_name(where, row, "model")
  )
  tolerance = row["tolerance"]
  yield PublishedFigure(
    "",
    FigureKey(model, dataset, "all", _TOP1, field),
    row["as_stated"],
    number,
    _parse_number(f"{where}: tolerance", tolerance) if tolerance else 0.0,
    "" if tolerance else "loose statement",
  )


def _read_name(where: str, row: Mapping[str, str], column: str) -> str:
  if not row[column]:
    raise errors.InputError(f"{where}: {column}", "a name", "none")
  return row[column]


def _parse_figure(where: str, text: str, field: str, whole: int) -> float:
  """Returns a number, a share out of `whole` (1 or 100) if it is one."""
  number = _parse_number(where, text)
  if field == RANK and (number < 1 or number != int(number)):
    raise errors.InputError(where, "a rank of at least 1", repr(text))
  if field in (VALUE, CI_LOW, CI_HIGH) and not 0 <= number <= whole:
    kind, fix = "percent", ""
    if whole == 1:
      kind, fix = "a fraction", "add _percent to the column's name for percent"
    expected = f"{kind} in [0, {whole}]"
    raise errors.InputError(where, expected, repr(text), fix)
  return number


def _parse_number(where: str, text: str) -> float:
  try:
    number = decimal.Decimal(text)
  except decimal.InvalidOperation:
    number = decimal.Decimal("nan")
  if not number.is_finite() or abs(number.adjusted()) > 300:
    raise errors.InputError(where, "a number", repr(text))
  return float(number)


def _half_unit(text: str, field: str) -> float:
  """Returns half a unit of the last printed digit; 0 for a rank."""
  if field == RANK:
    return 0.0
  exponent = decimal.Decimal(text).as_tuple().exponent
  return float(decimal.Decimal(5).scaleb(exponent - 1))


def _check_distinct(path, found: Sequence[PublishedFigure], header) -> None:
  if not found:
    raise errors.InputError(path, "figures", "none")
  if header == _CIFAR:  # The same figure from several texts.
    return
  seen = set()
  for figure in found:
    if figure.key in seen:
      name = "/".join(figure.key)
      raise errors.InputError(path, f"one figure of {name}", "two")
    seen.add(figure.key)
