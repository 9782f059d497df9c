"""Writes an HTML page and a Markdown file of a benchmark's rows.

imgbench bench report runs/bench

Writes report.html (one file, no scripts, loads nothing), its figures as PNGs
and report.md (tables for a README) into the folder. It only reads files.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench import writers
from imgbench.bench import compare
from imgbench.bench import medians
from imgbench.bench import rows
from imgbench.bench.pages import figures
from imgbench.bench.pages import roofline
from imgbench.bench.pages import row_tables as tables
from imgbench.bench.pages import selection as select
from imgbench.tables import formats
from imgbench.tables import page
from imgbench.tables import pictures
from imgbench.tables import table

# Method of an interval -> what it is of.
_COVERED = {medians.ORDER_STATISTICS: "medians", medians.STUDENT: "means"}
PAGE, MARKDOWN = "report.html", "report.md"
_SHARES = (
  "MFU: analytic FLOPs, not those of the compiled program, over the named peak."
)


def write(path: pathlib.Path) -> pathlib.Path:
  """Writes the page and the Markdown of a benchmark's folder.

  Returns:
    The path of the page.

  Raises:
    InputError: no rows, or broken ones.
  """
  folder = rows.read_folder(path)
  text = page.render("tables/templates/base.html.j2", **build_contents(folder))
  writers.write_atomically(folder.path / MARKDOWN, format_markdown(folder))
  writers.write_atomically(folder.path / PAGE, text)
  return folder.path / PAGE


def build_contents(folder: rows.RowFolder) -> dict[str, Any]:
  """Returns the page's contents; writes its figures to the folder."""
  return {
    "title": f"{_format_title(folder)} – imgbench",
    "kicker": "imgbench accelerator benchmark",
    "heading": _format_title(folder),
    "facts": _list_facts(folder),
    "sections": _build_sections(folder),
    "coverage": format_coverage(folder.rows),
  }


def format_markdown(folder: rows.RowFolder) -> str:
  """Returns the main tables and the facts of the machine."""
  found = folder.rows
  ratios = select.keep_largest(select.compute_ratios(found))
  facts = [f"{name}: {value}" for name, value in _list_facts(folder).items()]
  title, facts = map(
    table.escape_markdown, (_format_title(folder), "; ".join(facts))
  )
  parts = [f"# {title}", f"{facts}."]
  for title, shown in (
    ("Models", tables.build_models(found)),
    ("Ceilings", tables.build_ceilings(found)),
    ("Quantities", tables.build_quantities(found)),
    ("Ours over baselines", tables.build_baselines(ratios)),
    ("Scaling", tables.build_scaling(select.group_by_devices(found))),
    ("Fed from the host", tables.build_inputs(found)),
    ("Time to accuracy", tables.build_times(found)),
    ("Points that failed or did not fit", tables.build_failures(found)),
  ):
    if shown.rows:
      parts += [f"## {title}", shown.markdown(padded=False).rstrip()]
  parts.append(_describe_method(found))
  return "\n\n".join(parts) + "\n"


def format_coverage(found: Sequence[rows.Row]) -> str:
  """Returns the coverage of each kind of interval; "" without intervals.

  E.g. "93.75% (medians), 95% (ratios)". The coverage of a median's interval
  depends on its number of processes: "93.75% to 96.88% (medians)". The range of
  a quantity has no known coverage.
  """
  levels = [
    (_COVERED.get(row.interval_method, "rows"), row.interval_coverage)
    for row in found
    if row.interval_coverage
  ]
  levels += [
    ("ratios", ratio.interval.coverage)
    for ratio in select.compute_ratios(found)
  ]
  groups = select.group_rows(dict.fromkeys(levels), lambda level: level[0])
  parts = []
  for what, group in groups.items():
    values = [coverage for _, coverage in group]
    ends = [f"{formats.significant(100 * f(values))}%" for f in (min, max)]
    parts.append(f"{' to '.join(dict.fromkeys(ends))} ({what})")
  return ", ".join(parts)


def _format_title(folder: rows.RowFolder) -> str:
  environment = folder.environment
  kind = environment.get("device_kind") or environment.get("platform")
  if kind == "cpu" and environment.get("processor"):
    kind = environment["processor"]
  count = environment.get("num_devices", 1)
  name = str(kind or folder.path.resolve().name)
  return f"{count} × {name}" if count and count > 1 else name


def _list_facts(folder: rows.RowFolder) -> dict[str, str]:
  environment = folder.environment
  versions = environment.get("versions", {})
  ok = [r for r in folder.rows if r.status == rows.OK]
  counts = [r.processes for r in ok] or [0]
  bounds = dict.fromkeys([min(counts), max(counts)])
  is_quantity = all(r.key.task in rows.QUANTITIES for r in folder.rows)
  samples = "Rounds" if is_quantity else "Processes"
  facts = {
    "Host": environment.get("host"),
    "Processor": environment.get("processor"),
    "Cores": environment.get("cores"),
    "Driver": _format_driver(environment),
    "JAX": versions.get("jax"),
    "jaxlib": versions.get("jaxlib"),
    "PyTorch": versions.get("torch"),
    "Commit": environment.get("commit"),
    "Started": formats.moment(environment.get("started_at") or ""),
    "Rows": f"{len(ok)} of {len(folder.rows)} measured",
    f"{samples} per row": " to ".join(map(str, bounds)),
  }
  return {
    name: str(value)
    for name, value in facts.items()
    if value not in (None, "", "absent")
  }


def _format_driver(environment: Mapping) -> str:
  driver = environment.get("driver") or ""
  return "" if driver == environment.get("platform") else driver


def _describe_method(found: Sequence[rows.Row]) -> str:
  if all(r.key.task in rows.QUANTITIES for r in found):
    return "Each row has rounds of one process: median, least and largest."
  coverage = format_coverage(found)
  return (
    "Each row has several fresh processes; its number is the median of their"
    " medians, and its interval is between two of these (order statistics)."
    + f" Intervals cover {coverage}." * bool(coverage)
    + " Throughput waits once after many steps, latency for each."
  )


def _build_sections(folder: rows.RowFolder) -> list[page.Section]:
  """Returns the sections in order, including empty ones."""
  found, environment = folder.rows, folder.environment
  command = environment.get("command") or ""
  setup = page.provenance(command, folder.config, environment)
  times, failed = (tables.build_times(found), tables.build_failures(found))
  return [
    page.Section(anchor, title, blocks)
    for anchor, title, blocks in (
      ("models", "Models", _build_models(found)),
      ("throughput", "Throughput by batch", _build_throughput(folder)),
      ("roofline", "Roofline", _build_roofline(folder)),
      ("ceilings", "Ceilings", _show_table(tables.build_ceilings(found))),
      ("quantities", "Quantities", _show_table(tables.build_quantities(found))),
      ("peers", "Ours over baselines", _build_baselines(folder)),
      ("scaling", "Scaling", _build_scaling(folder)),
      ("input", "Fed from the host", _build_input(found)),
      ("compiling", "Compile times", _build_compiling(folder)),
      ("accuracy", "Time to accuracy", _show_table(times)),
      ("failures", "Points that failed or did not fit", _show_table(failed)),
      ("rows", "All rows", _build_rows(found)),
      ("setup", "Config and environment", setup),
    )
  ]


def _show_table(found: table.Table, *notes: str) -> list[page.Block]:
  """Returns a table with notes; empty without rows."""
  if not found.rows:
    return []
  return [found, *(page.Paragraph(note, muted=True) for note in notes)]


def _build_models(found: Sequence[rows.Row]) -> list[page.Block]:
  return _show_table(
    tables.build_models(found),
    f"The fastest batch of each task with data on the device. {_SHARES} Times a"
    " baseline: images per second of ours over the baseline's at the largest"
    " batch that both ran. Brackets are intervals over processes.",
  )


def _build_throughput(folder: rows.RowFolder) -> list[page.Block]:
  shown = figures.select_by_batch(folder.rows)
  count = max((row.key.devices for row in shown), default=0)
  devices = "One device" if count == 1 else f"{count} devices"
  return pictures.draw(
    folder.path / "throughput.png",
    figures.draw_throughput,
    shown,
    alt="Images per second by batch, a panel for each model",
    caption=f"{devices}, data on the device. Bars are intervals of medians over"
    " processes, if larger than the points. A line that is flat on the right"
    " has saturated the device.",
  )


def _build_roofline(folder: rows.RowFolder) -> list[page.Block]:
  return pictures.draw(
    folder.path / "roofline.png",
    roofline.draw_roofline,
    roofline.select_rows(folder.rows),
    alt="FLOP/s against FLOPs per byte, under the device's ceilings",
    caption="The fastest batch of each model. Filled: training, hollow:"
    " inference. FLOPs are analytic, bytes counted by the compiler. Under the"
    " slope a step is bound by memory, under the flat lines by compute; the"
    " distance to them is the headroom.",
  )


def _build_baselines(folder: rows.RowFolder) -> list[page.Block]:
  ratios = select.compute_ratios(folder.rows)
  if not ratios:
    return []
  figure = pictures.draw(
    folder.path / "peers.png",
    figures.draw_baselines,
    select.keep_largest(ratios),
    alt="Speed of ours over that of baselines at each point",
    caption="The largest batch that both ran. Measured in the same run with"
    " the same batch, image size, dtype and precisions. Ratios are of geometric"
    " means over processes; each single interval covers"
    f" {formats.short_percent(ratios[0].interval.coverage)}.",
  )
  return [*figure, page.Folded("As a table", tables.build_baselines(ratios))]


def _build_scaling(folder: rows.RowFolder) -> list[page.Block]:
  groups = select.group_by_devices(folder.rows)
  if not groups:
    return []
  figure = pictures.draw(
    folder.path / "scaling.png",
    figures.draw_scaling,
    groups,
    alt="Images per second and device by number of devices",
    caption="100%: twice as fast on twice as many devices.",
  )
  return [*figure, tables.build_scaling(groups)]


def _build_input(found: Sequence[rows.Row]) -> list[page.Block]:
  return _show_table(
    tables.build_inputs(found),
    "Share: of the speed with data on the device. Well below 1 the input limits"
    " the step.",
  )


def _build_compiling(folder: rows.RowFolder) -> list[page.Block]:
  compiled = select.keep_compiled(folder.rows)
  shown = select.keep_first_precision(compiled)
  if not shown:
    return []
  figure = pictures.draw(
    folder.path / "compiling.png",
    figures.draw_compiling,
    shown,
    alt="Compile times, cold and from the persistent cache",
    caption="Lowering and compiling one step at the largest batch of each"
    " model in its first precision, with an empty and with a filled cache. The"
    " table has all precisions, and baselines.",
  )
  return [*figure, page.Folded("As a table", tables.build_compiling(compiled))]


def _build_rows(found: Sequence[rows.Row]) -> list[page.Block]:
  every = tables.build_all_rows(found)
  if not every.rows:
    return []
  title = f"All {len(every.rows)} rows with images per second"
  note = page.Paragraph(f"{_describe_method(found)} {_SHARES}", muted=True)
  return [note, page.Folded(title, every)]


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines no flags; the folder is an argument."""
  del flag_values


parse_flags = compare.parse_flags


def main(argv: list[str]) -> int:
  """Writes the page and prints its path."""
  if len(argv) != 2:
    given = len(argv) - 1
    raise errors.InputError("arguments", "one folder", given, "see --help")
  print(write(pathlib.Path(argv[1])))
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("bench report")
