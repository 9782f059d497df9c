"""Tables of benchmark rows, for the page and as markdown."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from imgbench.bench import row_text
from imgbench.bench import rows
from imgbench.bench.pages import selection as select
from imgbench.report import html_tables
from imgbench.tables import formats

DASH = "–"


class Table(NamedTuple):
  """Cells as text; columns whose name ends with ">" hold numbers."""

  columns: Sequence[str]
  lines: Sequence[Sequence[str]]

  def html(self) -> str:
    """As HTML; all text is escaped."""
    is_number = [name.endswith(">") for name in self.columns]
    kinds = [' class="num"' if number else "" for number in is_number]
    cells = lambda tag, line: "".join(
      f"<{tag}{kind}>{formats.escape(cell)}</{tag}>"
      for cell, kind in zip(line, kinds, strict=True)
    )
    head = cells("th", [name.removesuffix(">") for name in self.columns])
    body = [f"<tr>{cells('td', line)}</tr>" for line in self.lines]
    return html_tables.table(f"<tr>{head}</tr>", body, "bench")

  def markdown(self) -> str:
    """As a table for a README."""
    names = [name.removesuffix(">") for name in self.columns]
    rules = ["---:" if c.endswith(">") else "---" for c in self.columns]
    escaped = [[cell.replace("|", r"\|") for cell in x] for x in self.lines]
    return "\n".join(
      f"| {' | '.join(line)} |" for line in [names, rules, *escaped]
    )


def summary(found: Sequence[rows.Row]) -> Table:
  """The fastest batch of each model, task, size, dtype and device count."""
  ratios = select.peer_ratios(found)
  frameworks = list(dict.fromkeys(r.theirs.key.framework for r in ratios))
  peaks = _peaks(found)
  what = lambda key: dataclasses.replace(
    key, framework="", strategy=None, batch=None
  )
  groups = select.grouped(
    [r for r in found if _is_plain(r)], lambda r: what(r.key)
  )
  lines = []
  for key, group in groups.items():
    best = max(group, key=lambda r: r.images_per_s)
    of_peak = best.flops_share_of_peak or {}
    same = [r for r in ratios if what(r.ours.key) == key]
    lines.append(
      [
        *(key.model, _TASKS[key.task], str(key.image_size)),
        *(select.precision(key), str(key.devices), str(best.key.batch)),
        *(row_text.rounded(best.images_per_s), _parameters(best)),
        *(_percent(of_peak.get(peak)) for peak in peaks),
        *(_times(same, framework) for framework in frameworks),
      ]
    )
  return Table(
    [
      *("Model", "Task", "Pixels>", "Dtype", "Devices>", "Batch>"),
      *("Images/s>", "Parameters>", *(f"of {p} peak>" for p in peaks)),
      *(f"times {framework}>" for framework in frameworks),
    ],
    lines,
  )


def ceilings(found: Sequence[rows.Row]) -> Table:
  """The microbenchmarks."""
  lines = [
    [
      (r.key.name or "").replace("_", " "),
      *(r.key.size or DASH, r.key.dtype or DASH, str(r.key.devices)),
      *(row_text.speed(r), _bounds(r, "rate"), str(r.processes)),
    ]
    for r in found
    if r.key.task == rows.MICRO and r.status == rows.OK
  ]
  return Table(
    ["What", "Size", "Dtype", "Devices>", "Rate>", "Interval>", "Processes>"],
    lines,
  )


def peers(ratios: Sequence[select.PeerRatio]) -> Table:
  """Ratios to peers, point by point; speeds as `row_text.compared`."""
  lines = [
    [
      *(_point(r.ours.key), r.theirs.key.framework),
      row_text.compared(r.ours),
      row_text.compared(r.theirs),
      row_text.ratio(r.ratio),
      interval(r.interval.low, r.interval.high, row_text.ratio),
    ]
    for r in ratios
  ]
  return Table(
    ["Point", "Peer", "Ours>", "Theirs>", "Ratio>", "Interval>"],
    lines,
  )


def inputs(found: Sequence[rows.Row]) -> Table:
  """What feeding from the host costs: rows that differ in `data` only."""
  groups = select.grouped(
    [r for r in select.measured(found) if r.key.framework == "imgbench"],
    lambda r: dataclasses.replace(r.key, data=None),
  )
  lines = []
  for key, group in groups.items():
    by_data = {r.key.data: r for r in group}
    base = by_data.pop("device", None)
    for name, row in by_data.items() if base else ():
      share = row.images_per_s / base.images_per_s
      speeds = [row_text.rounded(r.images_per_s) for r in (base, row)]
      lines.append([_point(key), name, *speeds, row_text.ratio(share)])
  columns = ["Point", "Data from", "On the device, images/s>", "From there>"]
  return Table([*columns, "Share>"], lines)


def compiling(found: Sequence[rows.Row]) -> Table:
  """Compile times and the first step of the largest batch of each model."""
  lines = [
    [
      *(_point(r.key), r.key.framework),
      *(row_text.seconds(r.compile_cold_s),),
      *(row_text.seconds(r.compile_cached_s),),
      row_text.seconds(r.first_step_s),
    ]
    for r in found
  ]
  names = ["Cold>", "From the cache>", "First step>"]
  return Table(["Point", "Framework", *names], lines)


def scaling(groups: Iterable[tuple[str, Sequence[rows.Row]]]) -> Table:
  """Speed by number of devices."""
  lines = [
    [
      *(f"{_point(r.key)}{_strategy(r.key)}", kind, str(r.key.devices)),
      row_text.rounded(r.images_per_s),
      row_text.rounded(r.images_per_s_per_device),
      f"{100 * efficiency:.1f}%",
    ]
    for kind, group in groups
    for r, efficiency in zip(group, select.efficiencies(group), strict=True)
  ]
  names = ["Images/s>", "per device>", "of the fewest's>"]
  return Table(["Point", "Kept", "Devices>", *names], lines)


def time_to_accuracy(found: Sequence[rows.Row]) -> Table:
  """Mean, interval and all runs."""
  lines = []
  for r in found:
    if r.key.task == rows.TIME_TO_ACCURACY and r.status == rows.OK:
      runs = [
        "not reached"
        if run.seconds_to_target is None
        else row_text.seconds(run.seconds_to_target)
        for run in r.raw
      ]
      lines.append(
        [
          *(r.key.name, f"{100 * r.key.target:g}%"),
          row_text.seconds(r.seconds_to_target),
          *(_bounds(r, "seconds_to_target"), ", ".join(runs)),
        ]
      )
  columns = ["Config", "Target>", "Mean>", "Interval>", "All runs"]
  return Table(columns, lines)


def failures(found: Sequence[rows.Row]) -> Table:
  """Points without numbers, and those whose batch had to be made smaller."""
  lines = []
  for r in found:
    status = r.status.replace("_", " ")
    if r.status == rows.OK and r.batch_asked:
      status = f"batch {r.batch_asked} did not fit"
    if r.status != rows.OK or r.batch_asked:
      lines.append([_point(r.key), r.key.framework, status, r.message])
  return Table(["Point", "Framework", "Status", "What was said"], lines)


def all_rows(found: Sequence[rows.Row]) -> Table:
  """Every row that has images per second, with its latency and memory."""
  lines, peaks = [], _peaks(found)
  for r in select.measured(found):
    latency, of_peak = r.latency_ms or {}, r.flops_share_of_peak or {}
    steps = [latency.get(name) for name in ("median", "p90", "p99")]
    memory = r.peak_memory_bytes
    lines.append(
      [
        *(f"{_point(r.key)}{_strategy(r.key)}", r.key.framework),
        *(str(r.key.devices), row_text.rounded(r.images_per_s)),
        *(_bounds(r, "images_per_s"), str(r.processes)),
        *(DASH if ms is None else row_text.rounded(ms) for ms in steps),
        *(_percent(of_peak.get(peak)) for peak in peaks),
        _percent(r.bandwidth_share),
        DASH if memory is None else row_text.si(memory, "B"),
      ]
    )
  return Table(
    [
      *("Point", "Framework", "Devices>", "Images/s>", "Interval>"),
      *("Processes>", "Step, ms>", "p90>", "p99>"),
      *(f"of {peak} peak>" for peak in peaks),
      *("of bandwidth>", "Memory>"),
    ],
    lines,
  )


def interval(low, high, show: Callable[[float], str]) -> str:
  """ "[low, high]"."""
  return f"[{show(low)}, {show(high)}]"


_TASKS = {"train": "training", "infer": "inference", "eval": "evaluation"}


def _is_plain(row: rows.Row) -> bool:
  """Whether a row is ours, has run, and had its data on the device."""
  key = row.key
  return bool(
    key.framework == "imgbench"
    and key.data in (None, "device")
    and row.images_per_s
  )


def _peaks(found: Sequence[rows.Row]) -> list[str]:
  """Names of the peaks that shares are of."""
  names = (name for r in found for name in r.flops_share_of_peak or {})
  return list(dict.fromkeys(names))


def _times(ratios: Sequence[select.PeerRatio], framework: str) -> str:
  """The ratio to a peer at the largest batch that both ran."""
  found = [r for r in ratios if r.theirs.key.framework == framework]
  largest = max(found, key=lambda r: r.ours.key.batch, default=None)
  return DASH if largest is None else row_text.ratio(largest.ratio)


def _parameters(row: rows.Row) -> str:
  return row_text.si(row.params) if row.params else DASH


def _point(key: rows.Key) -> str:
  plain = dataclasses.replace(
    key, framework="imgbench", strategy=None, devices=1
  )
  return plain.text()


def _strategy(key: rows.Key) -> str:
  return f" {key.strategy}" if key.strategy not in (None, "jit") else ""


def _bounds(row: rows.Row, name: str) -> str:
  low, high = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
  if low is None:
    return DASH
  if name == "rate":
    show = lambda value: row_text.rate(value, row.rate_unit)
    if row.rate_unit == "calls/s":
      low, high, show = 1 / high, 1 / low, row_text.seconds
  else:
    show = row_text.rounded
  return interval(low, high, show)


def _percent(share: float | None) -> str:
  return DASH if share is None else f"{100 * share:.1f}%"
