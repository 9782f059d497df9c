"""One HTML page and a markdown file of a benchmark's rows.

python -m imgbench.bench.report runs/bench

Writes report.html (one file, no scripts, nothing loaded), its figures as PNGs
and report.md (tables for a README) into the folder. Reads files only.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any

from absl import flags

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import writers
from imgbench.bench import compare
from imgbench.bench import rows
from imgbench.bench.pages import figures
from imgbench.bench.pages import roofline
from imgbench.bench.pages import row_tables as tables
from imgbench.bench.pages import selection as select
from imgbench.tables import formats
from imgbench.tables import page
from imgbench.tables import pictures
from imgbench.tables import table

PAGE, MARKDOWN = "report.html", "report.md"
_SHARES = (
  "Of peak: analytic FLOPs, not those that the compiler makes of them, over the"
  " named peak."
)


def write(path: pathlib.Path) -> pathlib.Path:
  """Writes the page and the markdown of a benchmark's folder.

  Returns:
    The path of the page.

  Raises:
    InputError: the folder holds no rows, or broken ones.
  """
  folder = rows.read_folder(path)
  text = page.render("tables/templates/base.html.j2", **build_contents(folder))
  writers.write_atomically(folder.path / MARKDOWN, format_markdown(folder))
  writers.write_atomically(folder.path / PAGE, text)
  return folder.path / PAGE


def build_contents(folder: rows.RowFolder) -> dict[str, Any]:
  """Returns what the page shows; draws its figures into the folder."""
  return {
    "title": f"{_format_title(folder)} – imgbench",
    "kicker": "imgbench accelerator benchmark",
    "heading": _format_title(folder),
    "facts": _list_facts(folder),
    "sections": _build_sections(folder),
    "coverage": format_coverage(folder.rows),
  }


def format_markdown(folder: rows.RowFolder) -> str:
  """The main tables with what they were measured on."""
  found = folder.rows
  ratios = select.keep_largest_ratios(select.compute_baseline_ratios(found))
  facts = [f"{name}: {value}" for name, value in _list_facts(folder).items()]
  parts = [f"# {_format_title(folder)}", "; ".join(facts) + "."]
  for title, shown in (
    ("Models", tables.build_models(found)),
    ("Ceilings", tables.build_ceilings(found)),
    ("Quantities", tables.build_quantities(found)),
    ("Ours over peers", tables.build_baselines(ratios)),
    ("Scaling", tables.build_scaling(select.group_by_devices(found))),
    ("Fed from the host", tables.build_inputs(found)),
    ("Time to accuracy", tables.build_time_to_accuracy(found)),
    ("Points that failed or did not fit", tables.build_failures(found)),
  ):
    if shown.rows:
      parts += [f"## {title}", shown.markdown(padded=False).rstrip()]
  parts.append(_describe_method(found))
  return "\n\n".join(parts) + "\n"


def format_coverage(found: Sequence[rows.Row]) -> str:
  """Returns the intervals' coverage: "93.75%", or "at least" the lowest.

  Least and largest values of quantities cover nothing that is known: "".
  """
  if all(r.key.task in rows.QUANTITIES for r in found):
    return ""
  levels = {r.interval_coverage for r in found if r.interval_coverage}
  if not levels:
    return "95%"
  least = f"{formats.significant(100 * min(levels))}%"
  return least if len(levels) == 1 else f"at least {least}"


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
  counts = sorted({r.processes for r in ok})
  processes = (
    " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    if (counts)
    else "0"
  )
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
    "Processes for each": processes,
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
    return "Each row is of rounds in one process: median, least and largest."
  return (
    "Each row is of several fresh processes; its number is the median of the"
    " processes' medians, and the interval lies between two of them (order"
    f" statistics, {format_coverage(found)} coverage). Throughput waits once after"
    " many steps, latency for each."
  )


def _build_sections(folder: rows.RowFolder) -> list[page.Section]:
  """The sections in their order, also empty ones."""
  found, environment = folder.rows, folder.environment
  command = environment.get("command") or ""
  setup = page.provenance(command, folder.config, environment)
  times, failed = (
    tables.build_time_to_accuracy(found),
    tables.build_failures(found),
  )
  return [
    page.Section(anchor, title, blocks)
    for anchor, title, blocks in (
      ("models", "Models", _models(found)),
      ("throughput", "Throughput by batch", _throughput(folder)),
      ("roofline", "Roofline", _roofline(folder)),
      ("ceilings", "Ceilings", _show_table(tables.build_ceilings(found))),
      ("quantities", "Quantities", _show_table(tables.build_quantities(found))),
      ("peers", "Ours over peers", _baselines(folder)),
      ("scaling", "Scaling", _scaling(folder)),
      ("input", "Fed from the host", _input(found)),
      ("compiling", "Compile times", _compiling(folder)),
      ("accuracy", "Time to accuracy", _show_table(times)),
      ("failures", "Points that failed or did not fit", _show_table(failed)),
      ("rows", "All rows", _rows(found)),
      ("setup", "Config and environment", setup),
    )
  ]


def _show_table(found: table.Table, *notes: str) -> list[page.Block]:
  """A table with what is noted below it; empty without rows."""
  if not found.rows:
    return []
  return [found, *(page.Paragraph(note, muted=True) for note in notes)]


def _models(found: Sequence[rows.Row]) -> list[page.Block]:
  return _show_table(
    tables.build_models(found),
    f"The fastest batch of each task with data on the device. {_SHARES} Times a"
    " peer: images per second of ours over the peer's at the largest batch that"
    " both ran.",
  )


def _throughput(folder: rows.RowFolder) -> list[page.Block]:
  shown = figures.select_by_batch(folder.rows)
  count = max((row.key.devices for row in shown), default=0)
  devices = "One device" if count == 1 else f"{count} devices"
  return pictures.draw(
    folder.path / "throughput.png",
    figures.draw_throughput,
    shown,
    alt="Images per second by batch, a panel for each model",
    caption=f"{devices}, data on the device. Bars are intervals over processes,"
    " where they are larger than the points. A line that is flat to the right"
    " has filled the device.",
  )


def _roofline(folder: rows.RowFolder) -> list[page.Block]:
  return pictures.draw(
    folder.path / "roofline.png",
    roofline.draw_roofline,
    roofline.select_rows(folder.rows),
    alt="FLOP/s against FLOPs per byte, under the device's ceilings",
    caption="The fastest batch of each model. Filled: training, hollow:"
    " inference. Up: analytic FLOPs per second. To the right: FLOPs per byte"
    " moved, as the compiler counts bytes. Under the slope a step waits for"
    " memory, under the flat lines for arithmetic; the distance to them is what"
    " is left to gain.",
  )


def _baselines(folder: rows.RowFolder) -> list[page.Block]:
  ratios = select.compute_baseline_ratios(folder.rows)
  if not ratios:
    return []
  figure = pictures.draw(
    folder.path / "peers.png",
    figures.draw_baselines,
    select.keep_largest_ratios(ratios),
    alt="Speed of ours over that of peers at each point",
    caption="The largest batch that both ran. Measured in the same run with"
    " the same batch, image size, dtype and precisions. Ratios are of geometric"
    " means over processes; each interval covers 95% by itself.",
  )
  return [*figure, page.Folded("As a table", tables.build_baselines(ratios))]


def _scaling(folder: rows.RowFolder) -> list[page.Block]:
  groups = select.group_by_devices(folder.rows)
  if not groups:
    return []
  figure = pictures.draw(
    folder.path / "scaling.png",
    figures.draw_scaling,
    groups,
    alt="Images per second and device by number of devices",
    caption="100% is what would be twice as fast on twice as many devices.",
  )
  return [*figure, tables.build_scaling(groups)]


def _input(found: Sequence[rows.Row]) -> list[page.Block]:
  return _show_table(
    tables.build_inputs(found),
    "Share: of the speed with data on the device. Well below 1 the input bounds"
    " the step, not the device.",
  )


def _compiling(folder: rows.RowFolder) -> list[page.Block]:
  compiled = select.select_compiled(folder.rows)
  shown = select.keep_first_precision(compiled)
  if not shown:
    return []
  figure = pictures.draw(
    folder.path / "compiling.png",
    figures.draw_compiling,
    shown,
    alt="Compile times, cold and from the persistent cache",
    caption="Lowering and compiling one step at the largest batch of each"
    " model and in the first of its precisions, with an empty cache and with"
    " what was compiled before. The table has all precisions, and peers.",
  )
  return [*figure, page.Folded("As a table", tables.build_compiling(compiled))]


def _rows(found: Sequence[rows.Row]) -> list[page.Block]:
  every = tables.build_all_rows(found)
  if not every.rows:
    return []
  title = f"All {len(every.rows)} rows with images per second"
  note = page.Paragraph(f"{_describe_method(found)} {_SHARES}", muted=True)
  return [note, page.Folded(title, every)]


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines no flags; the folder is positional."""
  del flag_values


parse_flags = compare.parse_flags


def main(argv: list[str]) -> int:
  """Writes the page and prints where it is."""
  with cli.one_line_errors():
    if len(argv) != 2:
      raise errors.InputError(
        f"expected one folder, got {len(argv) - 1}; see --help"
      )
    print(write(pathlib.Path(argv[1])))
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("bench report")
