"""ImageNet-X: Understanding Model Mistakes (Idrissi et al., ICLR 2023)

git clone --depth=1 https://github.com/modestyachts/ImageNetV2
pip install imagenet-x
imgbench paper imagenet-x --repo=ImageNetV2 --out=results/imagenet_x

Annotators named what makes an image of ImageNet's validation set unlike typical
ones of its class: pose, background, color and so on. The error ratio of such a
factor is the error rate on the images with it over that on all annotated ones.
--predictions=MODEL@imagenet-validation-original=FILE adds your model. Reads
files only; the annotations have a non-commercial license.

Source: arXiv 2211.01866; definitions of version 0.0.7 of the package.
"""

import functools
import importlib.util
import pathlib

from absl import flags
import pandas as pd

from imgbench import commands
from imgbench import errors
from imgbench.metrics import measurement
from imgbench.metrics import ratios as ratios_lib
from imgbench.metrics import specs
from imgbench.metrics import summary
from imgbench.papers import comparison
from imgbench.papers import program
from imgbench.papers import study as study_lib
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.tables import formats
from imgbench.tables import frame
from imgbench.tables import table

DATASET = "imagenet-x"  # the annotated images of the validation set
FACTORS = [
  *("pose", "background", "pattern", "color", "smaller", "shape", "larger"),
  *("partial_view", "subcategory", "texture", "darker", "object_blocking"),
  *("person_blocking", "style", "brighter", "multiple_objects"),
]
FILE, TYPICAL = "imagenet_x_val_top_factor.jsonl", "prototypical_paths.csv"
TOP1 = "top1_accuracy"
REQUIRED = ("repo",)
_KEYS = {"file_name", "class", *FACTORS, "justification", "one_word"}


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --repo, --annotations and the common flags."""
  program.define_flags(
    flag_values,
    repo="Clone of modestyachts/ImageNetV2, or a folder of the same layout.",
    annotations=f"{FILE} of the package imagenet-x, or its folder (default: of"
    " the installed package), or its file of several factors per image.",
  )


def reproduce(values: flags.FlagValues, output: program.Output) -> None:
  """Prints the table and adds the files to the output."""
  path = find_annotations(values.annotations)
  collection = clone.read(
    values.repo,
    datasets=(datasets.VALIDATION,),
    own=values.predictions,
    allow_reversed=values.allow_reversed,
  )
  figures = comparison.read(output, values.published)
  images = read_factors(path, collection.datasets[datasets.VALIDATION], output)
  output.read(collection.files, collection.notes)
  rows, ratios = measure(collection, images)
  study_lib.write_rows(output, rows)
  output.csv("ratios.csv", list(ratios), frame.to_rows(ratios))
  for row in frame.to_rows(ratios[ratios.ratio.isna()]):
    reason = f"{row.n} images have it, {row.errors_base} errors in all"
    output.undefined(f"error ratio of {row.model}/{row.subset}", reason)
  own = ratios.model.isin(list(collection.own))
  show(output, ratios[~own], ratios[own], images.sum())
  if figures:
    compared = comparison.compare(figures, comparison.collect_ours(rows))
    comparison.write(output, compared)


def find_annotations(given: str | None) -> pathlib.Path:
  """Returns the file, by default the installed package's; or InputError."""
  spec = importlib.util.find_spec("imagenet_x")
  if given is None and spec is not None:
    given = next(iter(spec.submodule_search_locations or ()), None)
  for inside in ("", FILE, f"annotations/{FILE}"):
    if given and (path := pathlib.Path(given, inside)).is_file():
      return path
  expected = f"{FILE} of the package imagenet-x, or its folder"
  fix = "run `pip install imagenet-x` (CC BY-NC 4.0: no commercial use)"
  raise errors.InputError("--annotations", expected, given or "none", fix)


def read_factors(path: pathlib.Path, dataset, output) -> pd.DataFrame:
  """Returns the factors of annotated images, bool [N, 16] by row of the set.

  Images that showed annotators what is typical of a class do not count.
  InputError: a bad file, unknown factors or images, an image twice.
  """
  typical = path.with_name(TYPICAL)
  try:
    found = pd.read_json(path, lines=True, dtype=False)
    left_out = pd.read_csv(typical, usecols=["file_name"]).file_name
  except (OSError, ValueError) as error:
    expected = f"a file of the package imagenet-x, with {TYPICAL} beside it"
    raise errors.InputError(path, expected, error) from error
  if wrong := ", ".join(sorted(_KEYS ^ set(found))):
    expected = f"the factors {', '.join(FACTORS)}"
    raise errors.InputError(path, expected, f"missing or unknown: {wrong}")
  places = pd.Series(range(len(dataset)), dataset.image_ids)
  rows = places.reindex(found.file_name).fillna(-1).to_numpy(int)
  for bad, expected in (
    (found.file_name.duplicated(), "every image once"),
    (rows < 0, f"images of {dataset.path}"),
    (found["class"] != dataset.labels[rows], f"classes of {dataset.path}"),
    (~found[FACTORS].isin([0, 1]).all(axis=1), "0 or 1 for each factor"),
  ):
    if bad.any():
      raise errors.InputError(path, expected, found[bad].file_name.iloc[0])
  kept = ~found.file_name.isin(left_out).to_numpy()
  note = f"{kept.sum():,} of {len(dataset):,} images count, {(~kept).sum():,}"
  note += f" are typical, {len(dataset) - len(found):,} not in {path.name}"
  output.read((path, typical), [note])
  return found[FACTORS].astype(bool).set_index(rows)[kept].sort_index()


def measure(collection: clone.Collection, images: pd.DataFrame):
  """Returns the frames of table.csv and of ratios.csv."""
  measurer = measurement.Measurer(alpha=0.05)
  text = specs.METRICS[TOP1].definition
  labels = collection.datasets[datasets.VALIDATION].labels[images.index]
  found, ratios = {}, []
  for p in collection.predictions[datasets.VALIDATION]:
    hits = p.ranking[images.index, 0] == labels
    for name, mask in {summary.ALL: images.index >= 0, **images}.items():
      k, n = hits[mask].sum(), mask.sum()
      found[p.model, DATASET, name, TOP1] = measurer.proportion(k, n, text)
      if name != summary.ALL:
        what = (p.model, name, TOP1, DATASET, DATASET, len(hits))
        ratio = ratios_lib.subset_error_ratio(k, n, hits.sum(), len(hits))
        ratios.append((*what, (~hits).sum(), n, n - k, *ratio))
  columns = study_lib.COLUMNS["ratios"]
  return frame.from_measurements(found), pd.DataFrame(ratios, columns=columns)


def show(output, public, own, sizes) -> None:
  """Prints the table of factors, and adds it and its figure to the output."""
  medians = public.groupby("subset").ratio.median().reindex(FACTORS)
  medians = medians.sort_values(kind="stable")
  few = sizes.map(lambda n: f"{n:,}, few" if n < 100 else f"{n:,}")
  cells = {r[:2]: formats.decimals(*r[-3:]) for r in frame.to_rows(own)}
  models = sorted({model for model, _ in cells})
  grid = table.from_cells(
    f"Error ratios, 95% intervals; median of {public.model.nunique()} models",
    ("factor", "images", "median", *models),
    [
      (f, few[f], median, *(cells[m, f] for m in models))
      for f, median in medians.map("{:.2f}".format).replace("nan", "").items()
    ],
  )
  study_lib.show(output, [grid], [grid])

  def draw(theme):
    from imgbench.tables import themes

    axes = themes.figure(6.6).subplots()
    places = pd.Series(range(len(medians)), medians.index)
    points = public.ratio, public.subset.map(places)
    axes.scatter(*points, 20, theme.muted, alpha=0.3, label="public models")
    axes.scatter(medians, places, 260, theme.text, marker="|", label="median")
    for i, (model, mine) in enumerate(own.groupby("model")):
      y = mine.subset.map(places) + 0.2 + 0.14 * i
      bars = mine.ratio - mine.ci_low, mine.ci_high - mine.ratio
      label = themes.plain(model)
      axes.errorbar(mine.ratio, y, xerr=bars, fmt="oDs^v"[i % 5], label=label)
    axes.axvline(1, color=theme.muted, linewidth=1)
    names = [f"{f.replace('_', ' ')} ({few[f]})" for f in medians.index]
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    bars = "error ratio, 95% intervals" if len(own) else "error ratio"
    axes.set_xlabel(f"{bars} (images; few: below 100)")
    axes.grid(axis="x")
    axes.figure.legend(loc="outside upper left", ncols=5)
    return axes.figure

  output.figure("error_ratios", draw)


main = functools.partial(program.run, reproduce)


if __name__ == "__main__":
  commands.start("paper imagenet-x")
