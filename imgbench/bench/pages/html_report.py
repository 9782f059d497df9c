"""One HTML page and a markdown file of a benchmark's rows.

python -m imgbench.bench.report runs/bench

Writes report.html (one file, no scripts, nothing loaded), its figures as PNGs
and report.md (tables for a README) into the folder. Reads files only.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import functools
from importlib import resources
import pathlib
import string

from absl import flags

import imgbench
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
from imgbench.report import html_tables
from imgbench.report import pictures
from imgbench.tables import formats

PAGE, MARKDOWN = "report.html", "report.md"
# Names of columns are longer than what stands in them.
_CSS = """.bench thead .num { white-space: normal; }
.bench .num { padding-left: 8px; }
.bench td:first-child { white-space: nowrap; }
"""
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
  gallery = pictures.Gallery(folder.path, image_lookup=None)
  template = _template("page.html")
  page = string.Template(template).substitute(
    title=formats.escape(f"{_title(folder)} – imgbench"),
    css=_template("page.css") + _CSS,
    body="\n".join(_body(folder, gallery)),
    coverage=coverage(folder.rows),
    version=formats.escape(imgbench.__version__),
  )
  writers.write_atomically(folder.path / MARKDOWN, markdown(folder))
  writers.write_atomically(folder.path / PAGE, page)
  return folder.path / PAGE


def markdown(folder: rows.Folder) -> str:
  """The main tables with what they were measured on."""
  found = folder.rows
  ratios = select.ratios_at_largest_batch(select.peer_ratios(found))
  facts = [f"{name}: {value}" for name, value in _facts(folder).items()]
  parts = [f"# {_title(folder)}", "; ".join(facts) + "."]
  for title, table in (
    ("Models", tables.summary(found)),
    ("Ceilings", tables.ceilings(found)),
    ("Quantities", tables.quantities(found)),
    ("Ours over peers", tables.peers(ratios)),
    ("Scaling", tables.scaling(select.scaling(found))),
    ("Fed from the host", tables.inputs(found)),
    ("Time to accuracy", tables.time_to_accuracy(found)),
    ("Points that failed or did not fit", tables.failures(found)),
  ):
    if table.rows:
      parts += [f"## {title}", table.markdown(padded=False).rstrip()]
  parts.append(_how(found))
  return "\n\n".join(parts) + "\n"


def coverage(found: Sequence[rows.Row]) -> str:
  """Returns the intervals' coverage: "93.75%", or "at least" the lowest."""
  levels = {r.interval_coverage for r in found if r.interval_coverage}
  if not levels:
    return "95%"
  least = f"{formats.significant(100 * min(levels))}%"
  return least if len(levels) == 1 else f"at least {least}"


def _template(name: str) -> str:
  return resources.files("imgbench.report").joinpath(name).read_text()


def _title(folder: rows.Folder) -> str:
  environment = folder.environment
  kind = environment.get("device_kind") or environment.get("platform")
  if kind == "cpu" and environment.get("processor"):
    kind = environment["processor"]
  count = environment.get("num_devices", 1)
  name = str(kind or folder.path.resolve().name)
  return f"{count} × {name}" if count and count > 1 else name


def _facts(folder: rows.Folder) -> dict[str, str]:
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
    "Driver": _driver(environment),
    "JAX": versions.get("jax"),
    "jaxlib": versions.get("jaxlib"),
    "PyTorch": versions.get("torch"),
    "Commit": environment.get("commit"),
    "Started": _moment(environment.get("started_at")),
    "Rows": f"{len(ok)} of {len(folder.rows)} measured",
    "Processes for each": processes,
  }
  return {
    name: str(value)
    for name, value in facts.items()
    if value not in (None, "", "absent")
  }


def _driver(environment: Mapping) -> str:
  driver = environment.get("driver") or ""
  return "" if driver == environment.get("platform") else driver


def _moment(iso: str | None) -> str:
  """ "2025-01-31T10:20:30+00:00" becomes "2025-01-31 10:20 UTC"."""
  if not iso or not iso.endswith("+00:00"):
    return iso or ""
  return f"{iso[:10]} {iso[11:16]} UTC"


def _how(found: Sequence[rows.Row]) -> str:
  if all(r.key.task in rows.QUANTITIES for r in found):
    return "Each row is of rounds in one process: median, least and largest."
  return (
    "Each row is of several fresh processes; its number is the median of the"
    " processes' medians, and the interval lies between two of them (order"
    f" statistics, {coverage(found)} coverage). Throughput waits once after"
    " many steps, latency for each."
  )


def _body(folder: rows.Folder, gallery: pictures.Gallery) -> list[str]:
  found = folder.rows
  sections = [
    ("models", "Models", _models(found)),
    ("throughput", "Throughput by batch", _throughput(found, gallery)),
    ("roofline", "Roofline", _roofline(found, gallery)),
    ("ceilings", "Ceilings", _table(tables.ceilings(found))),
    ("quantities", "Quantities", _table(tables.quantities(found))),
    ("peers", "Ours over peers", _peers(found, gallery)),
    ("scaling", "Scaling", _scaling(found, gallery)),
    ("input", "Fed from the host", _input(found)),
    ("compiling", "Compile times", _compiling(found, gallery)),
    ("accuracy", "Time to accuracy", _table(tables.time_to_accuracy(found))),
    (
      "failures",
      "Points that failed or did not fit",
      _table(tables.failures(found)),
    ),
    ("rows", "All rows", _rows(found)),
    ("setup", "Config and environment", _setup(folder)),
  ]
  sections = [section for section in sections if section[2]]
  links = [f'<a href="#{name}">{title}</a>' for name, title, _ in sections]
  return [
    _header(folder),
    f"<nav>{' '.join(links)}</nav>",
    *(
      f'<section id="{name}">\n<h2>{title}</h2>\n{content}\n</section>'
      for name, title, content in sections
    ),
  ]


def _header(folder: rows.Folder) -> str:
  items = [
    f"<div><dt>{formats.escape(name)}</dt><dd>{formats.escape(value)}</dd></div>"
    for name, value in _facts(folder).items()
  ]
  return (
    '<header>\n<p class="kicker">imgbench accelerator benchmark</p>\n'
    f"<h1>{formats.escape(_title(folder))}</h1>\n"
    f'<dl class="facts">{"".join(items)}</dl>\n</header>'
  )


def _models(found: Sequence[rows.Row]) -> str:
  table = tables.summary(found)
  if not table.rows:
    return ""
  return (
    f"{_table(table)}<p class='muted'>The fastest batch of each task with data"
    f" on the device. {_SHARES} Times a peer: images per second of ours over"
    " the peer's at the largest batch that both ran.</p>"
  )


def _throughput(found: Sequence[rows.Row], gallery: pictures.Gallery) -> str:
  shown = figures.by_batch(found)
  if not shown:
    return ""
  return gallery.figure(
    "throughput",
    functools.partial(figures.throughput, found=shown),
    alt="Images per second by batch, a panel for each model",
    caption=f"{_devices(shown)}, data on the device. Bars are intervals over"
    " processes, where they are larger than the points. A line that is flat to"
    " the right has filled the device.",
  )


def _devices(shown: Sequence[rows.Row]) -> str:
  count = shown[0].key.devices
  return "One device" if count == 1 else f"{count} devices"


def _roofline(found: Sequence[rows.Row], gallery: pictures.Gallery) -> str:
  shown = roofline.shown(found)
  if not shown:
    return ""
  return gallery.figure(
    "roofline",
    functools.partial(roofline.roofline, found=shown),
    alt="FLOP/s against FLOPs per byte, under the device's ceilings",
    caption="The fastest batch of each model. Filled: training, hollow:"
    " inference. Up: analytic FLOPs per second. To the right: FLOPs per byte"
    " moved, as the compiler counts bytes. Under the slope a step waits for"
    " memory, under the flat lines for arithmetic; the distance to them is what"
    " is left to gain.",
  )


def _peers(found: Sequence[rows.Row], gallery: pictures.Gallery) -> str:
  ratios = select.peer_ratios(found)
  if not ratios:
    return ""
  figure = gallery.figure(
    "peers",
    functools.partial(
      figures.peers, ratios=select.ratios_at_largest_batch(ratios)
    ),
    alt="Speed of ours over that of peers at each point",
    caption="The largest batch that both ran. Measured in the same run with"
    " the same batch, image size, dtype and precisions. Ratios are of geometric"
    " means over processes; each interval covers 95% by itself.",
  )
  table = html_tables.folded("As a table", _table(tables.peers(ratios)))
  return f"{figure}\n{table}"


def _scaling(found: Sequence[rows.Row], gallery: pictures.Gallery) -> str:
  groups = select.scaling(found)
  if not groups:
    return ""
  figure = gallery.figure(
    "scaling",
    functools.partial(figures.scaling, groups=groups),
    alt="Images per second and device by number of devices",
    caption="100% is what would be twice as fast on twice as many devices.",
  )
  return f"{figure}\n{_table(tables.scaling(groups))}"


def _input(found: Sequence[rows.Row]) -> str:
  table = tables.inputs(found)
  if not table.rows:
    return ""
  return (
    f"{_table(table)}<p class='muted'>Share: of the speed with data on the"
    " device. Well below 1 the input bounds the step, not the device.</p>"
  )


def _compiling(found: Sequence[rows.Row], gallery: pictures.Gallery) -> str:
  compiled = select.compiled(found)
  shown = select.ours_in_first_precision(compiled)
  if not shown:
    return ""
  figure = gallery.figure(
    "compiling",
    functools.partial(figures.compiling, found=shown),
    alt="Compile times, cold and from the persistent cache",
    caption="Lowering and compiling one step at the largest batch of each"
    " model and in the first of its precisions, with an empty cache and with"
    " what was compiled before. The table has all precisions, and peers.",
  )
  table = html_tables.folded("As a table", _table(tables.compiling(compiled)))
  return f"{figure}\n{table}"


def _rows(found: Sequence[rows.Row]) -> str:
  table = tables.all_rows(found)
  if not table.rows:
    return ""
  note = f'<p class="muted">{_how(found)} {_SHARES}</p>'
  title = f"All {len(table.rows)} rows with images per second"
  return note + html_tables.folded(title, _table(table))


def _table(shown) -> str:
  """A `table.Table` as HTML, all text escaped; "" without rows."""
  if not shown.rows:
    return ""
  kinds = [' class="num"' * column.numeric for column in shown.columns]
  cells = lambda tag, line: "".join(
    f"<{tag}{kind}>{formats.escape(cell)}</{tag}>"
    for cell, kind in zip(line, kinds, strict=True)
  )
  body = [f"<tr>{cells('td', line)}</tr>" for line in shown.cells]
  head = f"<tr>{cells('th', shown.header)}</tr>"
  return html_tables.table(head, body, "bench")


def _setup(folder: rows.Folder) -> str:
  parts = []
  command = folder.environment.get("command")
  if command:
    parts.append(f"<p><code>{formats.escape(command)}</code></p>")
  for title, values in (
    ("Config", folder.config),
    ("Environment", folder.environment),
  ):
    if values:
      shown = html_tables.key_values(values)
      parts.append(html_tables.folded(title, shown))
  return "\n".join(parts)


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
