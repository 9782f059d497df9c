"""Builds the tables of benchmark rows, for pages and Markdown."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from imgbench.bench import row_text
from imgbench.bench import rows
from imgbench.bench.pages import selection as select
from imgbench.tables import formats
from imgbench.tables import table

_TASKS = {"train": "training", "infer": "inference", "eval": "evaluation"}
# Units given in headings.
_NAMED_ABOVE = ("ms", "images/s")
_POINT = table.Column(lambda row: _format_point(row.key), "Point")
_FRAMEWORK = table.Column(lambda row: row.key.framework, "Framework")
_DEVICES = table.number(lambda row: row.key.devices, "Devices")
_PROCESSES = table.number("processes", "Processes")
_IMAGES_PER_S = table.number("images_per_s", "Images/s", formats.rounded)


def build_models(found: Sequence[rows.Row]) -> table.Table:
  """Builds the table of models: the fastest batch for each task and dtype."""
  ratios = select.compute_ratios(found)
  frameworks = list(dict.fromkeys(r.theirs.key.framework for r in ratios))
  what = lambda key: dataclasses.replace(key, strategy=None, batch=None)

  def times(framework: str) -> table.Column:
    """Builds the column of ratios at the largest batch that both ran."""

    def text(row: rows.Row) -> str:
      same = [
        r
        for r in ratios
        if r.theirs.key.framework == framework
        and what(r.ours.key) == what(row.key)
      ]
      largest = max(same, key=lambda r: r.ours.key.batch, default=None)
      return formats.DASH if largest is None else _format_ratio(largest)

    return table.number(text, f"times {framework}")

  shown = select.keep_fastest(filter(_is_plain, found))
  columns = [
    table.Column(lambda row: row.key.model, "Model"),
    table.Column(lambda row: _TASKS[row.key.task], "Task"),
    table.number(lambda row: row.key.image_size, "Pixels"),
    table.Column(lambda row: select.name_precision(row.key), "Dtype"),
    *[_DEVICES] * any(row.key.devices > 1 for row in shown),
    table.number(lambda row: row.key.batch, "Batch"),
    _IMAGES_PER_S,
    _build_interval("images_per_s"),
    *_build_columns(found, "flops_share_of_peak"),
    *map(times, frameworks),
  ]
  return table.Table("", columns, shown)


def build_ceilings(found: Sequence[rows.Row]) -> table.Table:
  """Builds the table of microbenchmarks."""
  columns = [
    table.Column(lambda row: (row.key.name or "").replace("_", " "), "What"),
    table.Column(lambda row: row.key.size or formats.DASH, "Size"),
    table.Column(lambda row: row.key.dtype or formats.DASH, "Dtype"),
    _DEVICES,
    table.number(row_text.format_speed, "Rate"),
    _build_interval("rate"),
    _PROCESSES,
  ]
  return table.Table("", columns, _select(found, (rows.MICRO,)))


def build_quantities(found: Sequence[rows.Row]) -> table.Table:
  """Builds the table of quantities of the component benchmarks."""
  columns = [
    table.Column(lambda row: row.key.name, "quantity"),
    table.number("rate", "median", formats.rounded),
    table.number("rate_low", "least", formats.rounded),
    table.number("rate_high", "largest", formats.rounded),
    table.Column("rate_unit", "unit"),
    table.number("processes", "rounds"),
  ]
  return table.Table("", columns, _select(found, rows.QUANTITIES))


def build_baselines(ratios: Sequence[select.BaselineRatio]) -> table.Table:
  """Builds the table of ratios to baselines, point by point."""
  columns = [
    table.Column(lambda r: _format_point(r.ours.key), "Point"),
    table.Column(lambda r: r.theirs.key.framework, "Baseline"),
    table.number(lambda r: row_text.format_compared(r.ours), "Ours"),
    table.number(lambda r: row_text.format_compared(r.theirs), "Theirs"),
    table.number(lambda r: formats.ratio(r.ratio), "Ratio"),
    table.number(
      lambda r: format_interval(r.interval.low, r.interval.high, formats.ratio),
      "Interval",
    ),
  ]
  return table.Table("", columns, ratios)


def build_inputs(found: Sequence[rows.Row]) -> table.Table:
  """Builds the table of input costs: rows that differ in `data` only."""
  groups = select.group_rows(
    [r for r in select.keep_measured(found) if r.key.framework == "imgbench"],
    lambda r: dataclasses.replace(r.key, data=None),
  )
  lines = []
  for key, group in groups.items():
    by_data = {r.key.data: r.images_per_s for r in group}
    base = by_data.pop("device", None)
    for name, speed in by_data.items() if base else ():
      lines.append((_format_point(key), name, base, speed, speed / base))
  columns = [
    table.Column(0, "Point"),
    table.Column(1, "Data from"),
    table.number(2, "On the device, images/s", formats.rounded),
    table.number(3, "From there, images/s", formats.rounded),
    table.number(4, "Share", formats.rounded),
  ]
  return table.Table("", columns, lines)


def build_compiling(found: Sequence[rows.Row]) -> table.Table:
  """Builds the table of compile times and first steps."""
  columns = [_POINT, _FRAMEWORK, *_list_columns(found, rows.COMPILING)]
  return table.Table("", columns, found)


def build_scaling(
  groups: Iterable[tuple[str, Sequence[rows.Row]]],
) -> table.Table:
  """Builds the table of speeds by number of devices."""
  lines = [
    (f"{_format_point(r.key)}{_format_strategy(r.key)}", kind, r.key.devices)
    + (r.images_per_s, r.images_per_s_per_device, efficiency)
    for kind, group in groups
    for r, efficiency in zip(
      group, select.list_efficiencies(group), strict=True
    )
  ]
  columns = [
    table.Column(0, "Point"),
    table.Column(1, "Constant"),
    table.number(2, "Devices"),
    table.number(3, "Images/s", formats.rounded),
    table.number(4, "per device", formats.rounded),
    table.number(5, "Efficiency", lambda x: formats.in_unit(x, "share")),
  ]
  return table.Table("", columns, lines)


def build_times(found: Sequence[rows.Row]) -> table.Table:
  """Builds the table of times to accuracy: mean, interval and all runs."""

  def list_runs(row: rows.Row) -> str:
    seconds = (run.seconds_to_target for run in row.raw)
    shown = (
      "not reached" if s is None else formats.seconds(s) for s in seconds
    )
    return ", ".join(shown)

  columns = [
    table.Column(lambda row: row.key.name, "Config"),
    table.number(lambda row: formats.short_percent(row.key.target), "Target"),
    table.number("seconds_to_target", "Mean", _or_dash(formats.seconds)),
    _build_interval("seconds_to_target"),
    table.Column(list_runs, "All runs"),
  ]
  return table.Table("", columns, _select(found, (rows.TIME_TO_ACCURACY,)))


def build_failures(found: Sequence[rows.Row]) -> table.Table:
  """Builds the table of failed points, and of reduced batches."""

  def describe_status(row: rows.Row) -> str:
    if row.status == rows.OK:
      return f"batch {row.batch_asked} did not fit"
    return row.status.replace("_", " ")

  columns = [
    _POINT,
    _FRAMEWORK,
    table.Column(describe_status, "Status"),
    table.Column("message", "Message"),
  ]
  failed = [r for r in found if r.status != rows.OK or r.batch_asked]
  return table.Table("", columns, failed)


def build_all_rows(found: Sequence[rows.Row]) -> table.Table:
  """Builds the table of all rows with images per second."""
  point = lambda row: f"{_format_point(row.key)}{_format_strategy(row.key)}"
  columns = [
    table.Column(point, "Point"),
    _FRAMEWORK,
    _DEVICES,
    _IMAGES_PER_S,
    _build_interval("images_per_s"),
    _PROCESSES,
    *_list_columns(found, rows.EVERY_ROW),
  ]
  return table.Table("", columns, select.keep_measured(found))


def _format_ratio(found: select.BaselineRatio) -> str:
  """Returns e.g. "1.43 [1.20, 1.72]"."""
  low, high, _ = found.interval
  bounds = format_interval(low, high, formats.rounded)
  return f"{formats.rounded(found.ratio)} {bounds}"


def format_interval(low, high, show: Callable[[float], str]) -> str:
  """Returns "[low, high]"."""
  return f"[{show(low)}, {show(high)}]"


def _list_columns(found: Sequence[rows.Row], name: str) -> list[table.Column]:
  """Returns the columns that are declared for a table."""
  shown = [column for column in rows.COLUMNS if column.table == name]
  return [
    made for column in shown for made in _build_columns(found, column.name)
  ]


def _build_columns(
  found: Iterable[rows.Row], name: str
) -> Iterator[table.Column]:
  """Yields a column of rows, or one per name for mappings."""
  column = next(c for c in rows.COLUMNS if c.name == name)
  show = functools.partial(formats.in_unit, unit=column.unit)
  if column.unit in _NAMED_ABOVE:
    show = _or_dash(formats.rounded)
  titles = column.title
  if isinstance(titles, str):
    if "{}" not in titles:
      yield table.number(name, titles, show)
      return
    inner_names = (n for row in found for n in getattr(row, name) or {})
    titles = {n: column.title.format(n) for n in inner_names}
  for inner, title in titles.items():
    value = lambda row, inner=inner: (getattr(row, name) or {}).get(inner)
    yield table.number(value, title, show)


def _or_dash(show: Callable[[Any], str]) -> Callable[[Any], str]:
  return lambda value: formats.DASH if value is None else show(value)


def _select(found: Iterable[rows.Row], tasks: Sequence[str]) -> list[rows.Row]:
  return [r for r in found if r.key.task in tasks and r.status == rows.OK]


def _is_plain(row: rows.Row) -> bool:
  """Returns whether a row is ours, succeeded, and had data on the device."""
  key = row.key
  return bool(
    key.framework == "imgbench"
    and key.data in (None, "device")
    and row.images_per_s
  )


def _format_point(key: rows.Key) -> str:
  plain = dataclasses.replace(
    key, framework="imgbench", strategy=None, devices=1
  )
  return plain.text()


def _format_strategy(key: rows.Key) -> str:
  return f" {key.strategy}" if key.strategy not in (None, "jit") else ""


def _build_interval(name: str) -> table.Column:
  """Builds the column of a number's interval."""

  def text(row: rows.Row) -> str:
    low, high = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
    if low is None:
      return formats.DASH
    if name != "rate":
      return format_interval(low, high, formats.rounded)
    if row.rate_unit == "calls/s":
      return format_interval(1 / high, 1 / low, formats.seconds)
    return format_interval(
      low, high, lambda x: formats.in_unit(x, row.rate_unit)
    )

  return table.number(text, "Interval")
