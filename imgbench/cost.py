"""Joins the accuracy of models with their speed, and marks the Pareto front.

imgbench cost runs/a runs/b --bench=runs/bench --out=runs/cost

RUN is the folder of a run, of imgbench score or of a paper script. A run has
the speed of the benchmark's rows of its model, image size and dtype, a score's
or a paper's model that of the rows of its name; of several batches the fastest.
A model is on the front if no other is both as accurate and as fast, and better
in one of them.
"""

import functools
import pathlib

from absl import flags
import pandas as pd

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import paths
from imgbench import run_files
from imgbench.bench import rows
from imgbench.bench.pages import selection
from imgbench.metrics import specs
from imgbench.papers import program
from imgbench.tables import entries
from imgbench.tables import formats
from imgbench.tables import frame
from imgbench.tables import table
from imgbench.train import compute

METRICS = ("top1_accuracy", "real_accuracy", "multilabel_accuracy.icml2020")
SPEED = ("images_per_s", "images_per_s_low", "images_per_s_high")
SPEED += ("images_per_s_per_device",)
COLUMNS = (
  *(*frame.KEY, "n", "value", "ci_low", "ci_high", "task", *SPEED),
  *("mfu", "batch", "image_size", "dtype", "devices", "device", "on_front"),
)
_GROUP = ["device", "dataset", "metric"]


def _read(run: str, task: str) -> pd.DataFrame:
  """Returns measurements with the name, image size and dtype of the model.

  A run may be evaluated on images of another size than it is trained on.
  """
  folder = paths.reach(run, "RUN")
  results = run_files.read_json(folder / run_files.RESULTS)
  if results is not None:
    found = frame.from_results(results, run.rstrip("/"))
    found = found[~found.dataset.map(entries.is_training_split)]
    config = run_files.read_json(folder / run_files.CONFIG) or {}
    model = config.get("model") or {}
    options = config.get("data", {}).get("options") or {}
    sizes = {**options, **config.get("input", {})}
    if task != "train":
      sizes |= config.get("evaluation", {}).get("input", {})
    size = sizes.get("size") or sizes.get("image_size")
    score, name, dtype = config.get("score"), *map(model.get, ("name", "dtype"))
    if score:
      name = score.get("model") or pathlib.Path(score["files"][0]).stem
    if dtype:
      facts = run_files.read_json(folder / run_files.ENVIRONMENT) or {}
      dtype = compute.model_dtype(dtype, facts.get("platform")).name
    return found.assign(name=name, size=size, dtype=dtype)
  files = [folder / name for name in ("table.csv", "drops.csv")]
  expected = f"a folder with {run_files.RESULTS} or table.csv"
  errors.check(files[0].is_file(), "RUN", expected, run)
  whole, *lost = (pd.read_csv(file) for file in files if file.is_file())
  expected, given = ",".join(frame.COLUMNS), ",".join(whole.columns)
  errors.check(given == expected, str(files[0]), expected, given[:80])
  lost = [x.assign(value=x["drop"], metric=x.metric + ".drop") for x in lost]
  found = pd.concat([whole, *lost], ignore_index=True)
  return found.assign(name=found.model, size=None, dtype=None)


def _join(output, accuracies: pd.DataFrame, bench: str, task: str):
  """Yields accuracies with their speed; notes name the models without one."""
  folder = rows.read_folder(paths.reach(bench, "--bench"))
  output.inputs([folder.path / rows.ROWS])
  device = folder.environment.get("device_kind")
  if device == "cpu":
    device = folder.environment.get("processor")
  device = device or "unknown device"  # It names a panel.
  measured = selection.keep_fewest_devices(folder.rows)
  left_out: dict[str, set[str]] = {}
  for one in frame.to_rows(accuracies):
    wanted = dict(task=task, framework="imgbench", model=one.name)
    wanted |= {"image_size": one.size} if one.size else {}
    wanted |= {"dtype": one.dtype} if one.dtype else {}
    fits = lambda row: wanted.items() <= vars(row.key).items()  # noqa: B023
    same = list(filter(fits, measured))
    sizes = {row.key.image_size for row in same}
    if len(sizes) != 1:
      reason = "several image sizes" if sizes else "no such rows"
      left_out.setdefault(reason, set()).add(one.model)
      continue
    row = max(same, key=lambda row: row.images_per_s_per_device)
    mfu = row.flops_share_of_peak or {}
    facts = {**one._asdict(), **vars(row.key), "model": one.model}
    facts |= {name: getattr(row, name) for name in SPEED}
    facts |= {"mfu": mfu.get("datasheet", mfu.get("measured"))}
    facts |= {"dtype": selection.name_precision(row.key), "device": device}
    yield facts
  for reason, models in left_out.items():
    what = ", ".join(sorted(models))
    output.note(f"{bench}: {reason} of task {task} for {what}")


def _beats(one: dict, other: dict) -> bool:
  """Returns whether one is as good and as fast as the other, and not equal."""
  sign = -1 if specs.describe(one["metric"]).better == specs.LOWER else 1
  (value, speed), (least, slowest) = (
    (sign * x["value"], x["images_per_s_per_device"]) for x in (one, other)
  )
  same = all(one[name] == other[name] for name in _GROUP)
  better = value > least or speed > slowest
  return same and better and value >= least and speed >= slowest


def _build_table(found: pd.DataFrame) -> table.Table:
  speed = lambda x: "" if x is None else formats.rounded(x)
  titles = ("images/s", "low", "high", "per device")
  columns = (
    table.Column("model"),
    table.Column("dataset", "data set"),
    table.Column("metric", format=formats.metric_title),
    table.number(lambda r: formats.with_bounds(*r[5:8]), "% or points"),
    *(table.number(*pair, speed) for pair in zip(SPEED, titles, strict=True)),
    table.number("mfu", "MFU", lambda x: formats.in_unit(x, "share")),
    table.number("image_size", "pixels"),
    *(table.number("batch"), table.Column("dtype"), table.Column("device")),
    table.Column("on_front", "front", format=lambda x: "yes" if x else ""),
  )
  text = "Accuracy and speed with intervals, and models on the Pareto front"
  return table.Table(text, columns, frame.to_rows(found, COLUMNS))


def _draw(theme, found: pd.DataFrame):
  """Returns a figure with a panel for each device, data set and metric."""
  from imgbench.tables import themes  # Matplotlib is slow to import.

  groups = found.groupby(_GROUP, sort=False)
  high = -(-len(groups) // 2)
  figure = themes.figure(3.8 * high)
  grid = figure.subplots(high, 2, squeeze=False).ravel()
  for axes in grid[len(groups) :]:
    axes.set_axis_off()
  for axes, (names, part) in zip(grid, groups, strict=False):
    part = part.sort_values("images_per_s_per_device")
    x, y = part.images_per_s_per_device, 100 * part.value
    ends = [y - 100 * part.ci_low, 100 * part.ci_high - y]
    ends = [end.clip(lower=0) for end in ends]  # Rounding may exceed a bound.
    axes.errorbar(x, y, ends, fmt="o", color=theme.muted)
    style = {"zorder": 3, "label": "Pareto front"}
    axes.plot(x[part.on_front], y[part.on_front], "o-", **style)
    for place, row in enumerate(frame.to_rows(part)):
      style = {"xytext": (4, -12 if place % 2 else 5)}
      style |= {"xy": (x.iloc[place], y.iloc[place])}
      style |= {"textcoords": "offset points", "fontsize": 8.5}
      axes.annotate(themes.plain(row.model), **style)
    axes.set(title=", ".join(names[:2]), xlabel="images/s per device")
    axes.set_ylabel(f"{formats.metric_title(names[2])} (%)")
    axes.margins(0.3, 0.15)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(True)
  figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left")
  return figure


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --bench, --task and --out."""
  text = "Folder of imgbench bench; repeatable."
  program.define_flags(flag_values, (program.OUT,), {"bench": text})
  text = "What is timed."
  flags.DEFINE_enum(
    "task", "infer", rows.IMAGE_TASKS, text, flag_values=flag_values
  )


def parse_flags(argv: list[str]) -> list[str]:
  """Returns the program's name and the runs. Raises InputError."""
  return cli.parse_flags(argv, required=(), positional=True)


def report(values: flags.FlagValues, output: program.Output, runs) -> None:
  """Prints the table and adds the files to the output. Raises InputError."""
  errors.check(bool(runs), "RUN", "one or more folders", "none")
  read = functools.partial(_read, task=values.task)
  found = pd.concat(map(read, runs), ignore_index=True)
  known = found.metric.str.removesuffix(".drop").isin(METRICS)
  found = found[known & (found.subset == "all") & found.value.notna()]
  expected = f"results with {', '.join(METRICS)}"
  errors.check(len(found) > 0, "RUN", expected, "others")
  joined = [
    x for b in values.bench for x in _join(output, found, b, values.task)
  ]
  expected = f"rows of task {values.task} for these models"
  given = ", ".join(values.bench) or "none"
  errors.check(bool(joined), "--bench", expected, given)
  fronts = [not any(_beats(y, x) for y in joined) for x in joined]
  found = pd.DataFrame(joined).assign(on_front=fronts)
  grid = _build_table(found)
  print(grid.text())
  output.text("cost.md", grid.markdown())
  output.csv("cost.csv", COLUMNS, frame.to_rows(found, COLUMNS))
  output.figure("cost", functools.partial(_draw, found=found))


def main(argv: list[str]) -> int:
  """Prints the table and writes --out."""
  return program.run(functools.partial(report, runs=argv[1:]), argv)


if __name__ == "__main__":
  commands.start("cost")
