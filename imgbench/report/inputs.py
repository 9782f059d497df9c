"""Reads and checks the files in the workdir of a run."""

from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import functools
import io
import json
from typing import Any

import numpy as np

from imgbench import errors
from imgbench import npz
from imgbench import paths
from imgbench import writers
from imgbench.labels import annotations
from imgbench.report import probabilities
from imgbench.tables import entries
from imgbench.tables import formats
from imgbench.tables import table

_CLASS_NUMBERS = (
  "precision",
  "recall",
  "recall_ci_low",
  "recall_ci_high",
  "f1",
)
_CLASS_COUNTS = ("class_index", "n", "predicted", "correct")
# Only if the probabilities of all classes were kept.
_CLASS_EXTRAS = ("average_precision", "roc_auc")
SYNTHETIC = "synthetic data"  # badge of a page and of its sections
_REMOVE = "evaluate the run again or remove the file"
_KEEP = "use evaluation.sets.<name>.probabilities=True (score: --probabilities)"
_MAX_NAMES = 2**20
_MAX_CLASSES = 4096  # of a data set without lines in per_class.csv
# Examples without a label are predicted, but do not count in results.
_SPARE = 2


@dataclasses.dataclass(frozen=True)
class ClassRow:
  """One line of per_class.csv; None is undefined."""

  class_index: int
  class_name: str
  n: int
  predicted: int
  correct: int
  precision: float | None
  recall: float | None
  recall_ci_low: float | None
  recall_ci_high: float | None
  f1: float | None
  average_precision: float | None = None
  roc_auc: float | None = None


@dataclasses.dataclass(frozen=True)
class Predictions:
  """One file of predictions/.

  Attributes:
    image_id: str [N].
    label: int32 [N].
    top5: int32 [N, 5], -1 in rows whose logits are not finite.
    top5_prob: float32 [N, 5], NaN in such rows.
    review: int8 [N], the code of the top-1 prediction (`labels.annotations`);
      None for a data set without reviewed labels, and in older files.
    left_out: bool [N], images that accuracies against label sets do not count;
      None as `review`.
  """

  image_id: np.ndarray
  label: np.ndarray
  top5: np.ndarray
  top5_prob: np.ndarray
  review: np.ndarray | None = None
  left_out: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Reconstructions:
  """One file of reconstructions/.

  Attributes:
    image_id: str [N].
    mse: float32 [N], NaN for outputs that are not finite.
    shown: integer [S], the images that follow: of the highest errors, then
      others.
    images: uint8 [S, H, W, C].
    reconstructions: uint8 [S, H, W, C].
    normal: bool [N]; None as the rest: anomalies were not measured.
    abnormal: bool [N].
    recall: float [P], of flagging errors above thresholds, ascending.
    precision: float [P].
  """

  image_id: np.ndarray
  mse: np.ndarray
  shown: np.ndarray
  images: np.ndarray
  reconstructions: np.ndarray
  normal: np.ndarray | None = None
  abnormal: np.ndarray | None = None
  recall: np.ndarray | None = None
  precision: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class DatasetFiles:
  """The files of one data set and split; what is missing is empty or None.

  Attributes:
    key: e.g. "cifar10:test".
    class_names: K names.
    classes: rows of per_class.csv.
    confusion: int64 [K, K], rows are true labels.
    predictions: of the file in predictions/.
    reliability: of calibration.json.
    curves: of curves.json, the class of lowest average precision first.
    reconstructions: of the file in reconstructions/.
  """

  key: str
  class_names: tuple[str, ...] = ()
  classes: tuple[ClassRow, ...] = ()
  confusion: np.ndarray | None = None
  predictions: Predictions | None = None
  reliability: probabilities.Reliability | None = None
  curves: tuple[probabilities.ClassCurve, ...] = ()
  reconstructions: Reconstructions | None = None

  def name(self, index: int) -> str:
    """Returns the name of a class, or its number without names."""
    if 0 <= index < len(self.class_names):
      return self.class_names[index]
    return f"class {index}"


@dataclasses.dataclass(frozen=True)
class Run:
  """The files of a run; what is missing is empty."""

  workdir: paths.Folder
  config: dict
  environment: dict
  status: dict
  records: tuple[dict, ...]
  results: tuple[entries.Row, ...] | None
  warnings: tuple[dict, ...]
  datasets: tuple[DatasetFiles, ...]

  @property
  def training(self) -> tuple[str, ...]:
    """Keys of the data sets with training data."""
    known = self.environment.get("training_data")
    if known is None:
      keys = [dataset.key for dataset in self.datasets]
      known = filter(entries.is_training_split, keys)
    return tuple(map(str, known))

  @property
  def charted(self) -> tuple[DatasetFiles, ...]:
    """The data sets that get figures: training data only without others.

    Of a data set measured with several sets of parameters, the first one; of
    sets with the same images the first one, with the reviews of the others.
    """
    others = [d for d in self.datasets if d.key not in self.training]
    families: dict[Any, DatasetFiles] = {}
    for dataset in others or self.datasets:
      if dataset.key not in self.repeats:
        families.setdefault(entries.family(dataset.key), dataset)
    return tuple(map(self._add_reviews, families.values()))

  @functools.cached_property
  def repeats(self) -> dict[str, str]:
    """Data set -> an earlier one that has all its images.

    ImageNet's validation set, for example, is evaluated on several label sets.
    """
    parameters = lambda dataset: dataset.key.partition(":")[0].partition("+")[2]
    found: dict[str, str] = {}
    for place, dataset in enumerate(self.datasets):
      for other in self.datasets[:place]:
        first = other.key not in found
        same = parameters(other) == parameters(dataset)
        if first and same and _find_images(other, dataset) is not None:
          found[dataset.key] = other.key
          break
    return found

  def _add_reviews(self, dataset: DatasetFiles) -> DatasetFiles:
    """Returns the data set with reviews of its predictions in its repeats."""
    predictions = dataset.predictions
    for other in self.datasets:
      if self.repeats.get(other.key) != dataset.key:
        continue
      if predictions.review is None and other.predictions.review is not None:
        rows = _find_images(dataset, other)
        top1 = predictions.top5[:, 0]
        same = top1[rows] == other.predictions.top5[:, 0]
        review = np.full(top1.shape, annotations.UNREVIEWED, np.int8)
        review[rows[same]] = other.predictions.review[same]
        predictions = dataclasses.replace(predictions, review=review)
    return dataclasses.replace(dataset, predictions=predictions)

  def base_of(self, dataset: str) -> str:
    """Returns the key of the base set of `dataset`; "" if unknown."""
    evaluation = self.config.get("evaluation") or {}
    alias = (evaluation.get("shift") or {}).get("base")
    entry = (evaluation.get("sets") or {}).get(alias) or {}
    name = entry.get("name") or self.config.get("data", {}).get("name") or ""
    _, plus, variant = dataset.partition(":")[0].partition("+")
    # As in imgbench.data: no version, and no slash, which would split a metric.
    name = name.partition(":")[0].replace("/", "-")
    key = f"{name}{plus}{variant}:{entry.get('split')}"
    return key if any(d.key == key for d in self.datasets) else ""

  @property
  def coverage(self) -> str:
    """Coverage of the intervals of the results, e.g. "95%"."""
    section = self.config.get("evaluation")
    alpha = section.get("alpha") if isinstance(section, Mapping) else None
    return format_coverage(0.05 if alpha is None else alpha)

  @property
  def synthetic(self) -> tuple[str, ...]:
    """Keys of the synthetic data sets."""
    return tuple(map(str, self.environment.get("synthetic") or ()))

  def mark(self, title: str, *datasets: str) -> table.RichText:
    """Returns a title with a badge if data sets, by default all, are synthetic.

    The badge names them if others are real.
    """
    asked = datasets or [d.key for d in self.datasets]
    found = [key for key in asked if key in self.synthetic]
    names = "" if len(found) == len(asked) else f": {', '.join(found)}"
    return table.RichText(title, badge=SYNTHETIC + names if found else "")


def read(workdir: paths.Folder) -> Run:
  """Reads a run. Raises InputError for no run or a broken file."""
  known = ("config.json", "metrics.jsonl", "results.json")
  if not any((workdir / name).is_file() for name in known):
    expected = f"the folder of a run with {', '.join(known)}"
    fix = "give the --workdir of a run"
    raise errors.InputError(workdir, expected, "none of them", fix)
  rows = read_results(workdir)
  if rows:
    # The page and its sections are marked.
    rows = tuple(map(_describe_without_synthetic, rows))
  classes = _read_classes(workdir / "per_class.csv")
  return Run(
    workdir=workdir,
    config=_read_json(workdir / "config.json", dict, {}),
    environment=_read_json(workdir / "environment.json", dict, {}),
    status=_read_json(workdir / "status.json", dict, {}),
    records=_read_records(workdir / "metrics.jsonl"),
    results=rows,
    warnings=_read_warnings(workdir / "warnings.json"),
    datasets=_read_datasets(workdir, rows or (), classes),
  )


def read_results(workdir: paths.Folder) -> tuple[entries.Row, ...] | None:
  """Returns the rows of results.json; None without it. Raises InputError."""
  results = _read_json(workdir / "results.json", dict, None)
  return None if results is None else entries.parse(results)


def format_coverage(alpha: float) -> str:
  """Returns e.g. "95%" for 0.05."""
  return formats.short_percent(1 - alpha)


def _read_json(path: paths.Folder, kind: type, default):
  if not path.is_file():
    return default
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except (RecursionError, ValueError) as error:
    raise errors.InputError(path, "JSON", error, _REMOVE) from error
  if not isinstance(value, kind):
    expected = f"a JSON {kind.__name__}"
    raise errors.InputError(path, expected, type(value).__name__)
  return value


def _read_warnings(path: paths.Folder) -> tuple[dict, ...]:
  rows = _read_json(path, list, [])
  if not all(isinstance(row, dict) and "message" in row for row in rows):
    expected = 'a list of objects with "message"'
    raise errors.InputError(path, expected, json.dumps(rows)[:80])
  return tuple(
    sorted(rows, key=lambda r: entries.split_rank(str(r.get("dataset"))))
  )


def _read_records(path: paths.Folder) -> tuple[dict, ...]:
  records = writers.read_lines(path)
  for record in records:
    if not isinstance(record, dict) or "step" not in record:
      expected = 'objects with "step"'
      raise errors.InputError(path, expected, str(record)[:80])
  return tuple(records)


def _read_classes(path: paths.Folder) -> dict[str, list[ClassRow]]:
  """Returns the rows of per_class.csv by data set."""
  rows: dict[str, list[ClassRow]] = {}
  if not path.is_file():
    return rows
  text = io.StringIO(path.read_bytes().decode(), newline="")
  for line in csv.DictReader(text):
    try:
      rows.setdefault(line["dataset"], []).append(
        ClassRow(
          class_name=line["class_name"],
          **{f: int(line[f]) for f in _CLASS_COUNTS},
          **{f: float(line[f]) if line[f] else None for f in _CLASS_NUMBERS},
          **{f: float(line[f]) for f in _CLASS_EXTRAS if line.get(f)},
        )
      )
    except (KeyError, TypeError, ValueError) as error:
      columns = ("dataset", "class_name", *_CLASS_COUNTS, *_CLASS_NUMBERS)
      expected = f"the columns {', '.join(columns)}"
      raise errors.InputError(path, expected, f"{line!r:.120}") from error
  return rows


def read_predictions(
  workdir: paths.Folder,
  key: str,
  names: Sequence[str],
  num_examples: int,
  num_classes: int,
) -> dict[str, np.ndarray]:
  """Returns the arrays that a file in predictions/ has; none without it.

  Args:
    workdir: of the run.
    key: of the data set.
    names: of the wanted arrays: image_id, label, top5, top5_prob, probs,
      review and left_out, which may be absent.
    num_examples: of the data set.
    num_classes: K; 0: unknown.

  Raises:
    InputError: not such a file, an array that is missing, or one of another
      type or size.
  """
  path = find_predictions(workdir, key)
  if not path.is_file():
    return {}
  expected = {
    "image_id": npz.Expected("US", ("N",)),
    "label": npz.Expected("iu", ("N",)),
    "top5": npz.Expected("iu", ("N", 5)),
    "top5_prob": npz.Expected("f", ("N", 5)),
    "probs": npz.Expected("f", ("N", "K")),
    "review": npz.Expected("iu", ("N",)),
    "left_out": npz.Expected("b", ("N",)),
  }
  most = {"N": _SPARE * num_examples, "K": num_classes or _MAX_CLASSES}
  found = npz.read(path, {n: expected[n] for n in names}, most, _REMOVE)
  may_lack = ("review", "left_out")
  missing = [name for name in names if name not in (*found, *may_lack)]
  if missing:
    wanted = f"the arrays {', '.join(names)}"
    fix = _KEEP if "probs" in missing else _REMOVE
    raise errors.InputError(path, wanted, f"no {', '.join(missing)}", fix)
  return found


def read_reconstructions(
  workdir: paths.Folder, key: str, num_examples: int
) -> Reconstructions | None:
  """Returns the file in reconstructions/ of a data set, None without it.

  Raises:
    InputError: see `read_predictions`.
  """
  path = workdir / "reconstructions" / f"{writers.make_file_key(key)}.npz"
  if not path.is_file():
    return None
  pictures = npz.Expected("u", ("S", "H", "W", "C"))
  expected = {
    "image_id": npz.Expected("US", ("N",)),
    "mse": npz.Expected("f", ("N",)),
    "shown": npz.Expected("iu", ("S",)),
    "images": pictures,
    "reconstructions": pictures,
    "normal": npz.Expected("b", ("N",)),
    "abnormal": npz.Expected("b", ("N",)),
    "recall": npz.Expected("f", ("P",)),
    "precision": npz.Expected("f", ("P",)),
  }
  most = dict(
    zip("NSPHWC", (num_examples, 64, 1024, 4096, 4096, 3), strict=True)
  )
  found = npz.read(path, expected, most, _REMOVE)
  missing = [name for name in list(expected)[:5] if name not in found]
  if missing:
    given = f"no {', '.join(missing)}"
    raise errors.InputError(path, "the arrays of a run", given, _REMOVE)
  outside = found["shown"] >= len(found["mse"])
  errors.check(
    not outside.any(), f"{path}: shown", "numbers of its images", "others"
  )
  return Reconstructions(**found)


def find_predictions(workdir: paths.Folder, key: str) -> paths.Folder:
  """Returns the file with the predictions on a data set."""
  return workdir / "predictions" / f"{writers.make_file_key(key)}.npz"


def read_class_names(workdir: paths.Folder, key: str) -> tuple[str, ...]:
  """Returns the class names of a data set in confusion.npz; () without it.

  Raises:
    InputError: not such a file, or an array of another type.
  """
  path = workdir / "confusion.npz"
  if not path.is_file():
    return ()
  name = f"{writers.make_file_key(key)}.class_names"
  expected = {name: npz.Expected("U", ("K",))}
  found = npz.read(path, expected, {"K": _MAX_NAMES}, _REMOVE)
  return tuple(map(str, found.get(name, ())))


def read_subsets(
  workdir: paths.Folder, key: str, num_classes: int
) -> dict[str, np.ndarray]:
  """Returns the subsets of a data set's classes, name -> bool [K].

  None is known without confusion.npz, and from older files.

  Raises:
    InputError: not such a file, or an array of another type or size.
  """
  path, name = workdir / "confusion.npz", writers.make_file_key(key)
  if not path.is_file():
    return {}
  expected = {
    f"{name}.subset_names": npz.Expected("U", ("S",)),
    f"{name}.subsets": npz.Expected("b", ("S", num_classes)),
  }
  found = npz.read(path, expected, {"S": _MAX_CLASSES}, _REMOVE)
  return dict(zip(*found.values(), strict=True)) if len(found) == 2 else {}


def read_confusion(
  workdir: paths.Folder, key: str, num_classes: int = 0
) -> tuple[np.ndarray | None, tuple[str, ...]]:
  """Returns confusion matrix and class names of a data set, or None and ().

  Args:
    workdir: of the run.
    key: of the data set.
    num_classes: K; 0: unknown.

  Raises:
    InputError: not such a file, or an array of another type or size.
  """
  path, name = workdir / "confusion.npz", writers.make_file_key(key)
  if not path.is_file():
    return None, ()
  expected = {
    name: npz.Expected("iu", ("K", "K")),
    f"{name}.class_names": npz.Expected("U", ("K",)),
  }
  found = npz.read(path, expected, {"K": num_classes or _MAX_CLASSES}, _REMOVE)
  names = found.get(f"{name}.class_names", ())
  return found.get(name), tuple(map(str, names))


def _read_datasets(
  workdir: paths.Folder, rows, classes: Mapping[str, list[ClassRow]]
) -> tuple[DatasetFiles, ...]:
  calibration = _read_json(workdir / "calibration.json", dict, {})
  curves = _read_json(workdir / "curves.json", dict, {})
  keys = dict.fromkeys([row.dataset for row in rows])
  keys |= dict.fromkeys(sorted(classes, key=entries.split_rank))
  found = []
  for key in keys:
    of_set = tuple(sorted(classes.get(key, ()), key=lambda r: r.class_index))
    matrix, names = read_confusion(workdir, key, len(of_set))
    if matrix is not None:
      _check_matrix(workdir / "confusion.npz", key, matrix, of_set)
    counted = [row.n for row in rows if row.dataset == key]
    num_examples = max(counted, default=sum(row.n for row in of_set))
    # Probabilities of all classes may be large.
    fields = [field.name for field in dataclasses.fields(Predictions)]
    arrays = read_predictions(workdir, key, fields, num_examples, 0)
    found.append(
      DatasetFiles(
        key=key,
        class_names=names or tuple(row.class_name for row in of_set),
        classes=of_set,
        confusion=matrix,
        predictions=Predictions(**arrays) if arrays else None,
        reliability=probabilities.parse_reliability(
          f"{workdir / 'calibration.json'}: {key}", calibration.get(key)
        ),
        curves=probabilities.parse_curves(
          f"{workdir / 'curves.json'}: {key}", curves.get(key, ())
        ),
        reconstructions=read_reconstructions(workdir, key, num_examples),
      )
    )
  return tuple(found)


def _find_images(
  dataset: DatasetFiles, other: DatasetFiles
) -> np.ndarray | None:
  """Returns the rows of a data set with the images of another one.

  The same images have the same identifiers and original labels, and nearly the
  same confidences: identifiers may be mere numbers. None: it lacks one of them.
  """
  ours, theirs = dataset.predictions, other.predictions
  if not ours or not theirs or not 0 < len(theirs.label) <= len(ours.label):
    return None
  first = ours.label == theirs.label[0]
  if theirs.image_id[0] not in ours.image_id[first]:
    return None
  order = np.argsort(ours.image_id)
  places = np.searchsorted(ours.image_id, theirs.image_id, sorter=order)
  rows = order[np.minimum(places, len(order) - 1)]
  same = ours.image_id[rows] == theirs.image_id
  same &= ours.label[rows] == theirs.label
  close = np.isclose(
    ours.top5_prob[rows, 0], theirs.top5_prob[:, 0], atol=0.01, equal_nan=True
  )
  return rows if same.all() and close.mean() > 0.99 else None


def share_images(one: DatasetFiles, other: DatasetFiles) -> bool:
  """Returns whether two data sets with predictions have an image in common.

  Identifiers tell within a data set. Another one has images of this one if it
  is a part of it.
  """
  base = lambda dataset: dataset.key.partition(":")[0].partition("+")[0]
  if base(one) == base(other) and one.predictions and other.predictions:
    ids = (one.predictions.image_id, other.predictions.image_id)
    return bool(np.isin(*ids).any())
  found = _find_images(one, other), _find_images(other, one)
  return any(rows is not None for rows in found)


def _describe_without_synthetic(row: entries.Row) -> entries.Row:
  """Returns a row whose definitions do not repeat that images are synthetic."""
  clauses = row.definition.split("; ")
  kept = [words for words in clauses if not words.endswith(" are synthetic")]
  shift = row.shift and entries.Shift(
    _describe_without_synthetic(row.shift.base),
    _describe_without_synthetic(row.shift.drop),
  )
  return dataclasses.replace(row, definition="; ".join(kept), shift=shift)


def _check_matrix(path, key, matrix, classes) -> None:
  square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
  if not square or any(row.class_index >= len(matrix) for row in classes):
    expected = f"counts [K, K] of the {len(classes)} classes of per_class.csv"
    raise errors.InputError(f"{path}: {key}", expected, list(matrix.shape))
