"""Compiles training steps of ImageNet models for 8 to 256 TPU v5e chips.

imgbench compile-only v5e \\
    --out=experiments/results/compile_only_v5e.json --doc=docs/scaling.md

Needs the extra `tpu` and no TPU; minutes of one CPU core per row. Rows in the
file are kept, so that a stopped run resumes; delete the file to start over. The
table between two marks of the document is written from the file (--nocompile:
without compiling missing rows).
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import importlib
import json
import pathlib
from typing import Any

from absl import flags
from absl import logging
import jax
import ml_collections

from imgbench import cli
from imgbench import commands
from imgbench import config_utils
from imgbench import environment
from imgbench import startup
from imgbench import writers
from imgbench.bench import accelerators
from imgbench.bench import compile_only
from imgbench.bench.hlo import programs
from imgbench.tables import table

BEGIN, END = "<!-- compile_only_v5e -->\n", "<!-- end -->\n"
FITS, TOO_LARGE = "fits", "does not fit"


_HEAD = (
  *("model (parameters)", "chips", "state", "batch, of a chip", "memory, GB"),
  *("TFLOP", "collectives", "MB sent (need)", "compute, ms", "memory, ms"),
  *("links, ms", "images/s at most"),
)


@dataclasses.dataclass(frozen=True)
class V5eCase:
  """One row.

  Attributes:
    model: name.
    topology: of the chips.
    global_batch_size: B.
    fsdp: chips that share one copy of the state.
    microbatches: per batch.
  """

  model: str
  topology: str
  global_batch_size: int
  fsdp: int = 1
  microbatches: int = 1

  def config(self) -> ml_collections.ConfigDict:
    """Returns the recipe of the model's kind with this model and sizes."""
    recipe = "resnet50" if self.model == "resnet50" else "vit_s16"
    module = importlib.import_module(f"imgbench.configs.imagenet_{recipe}")
    config = module.get_config()
    with config.unlocked():
      config.model.name = self.model
      config.global_batch_size = self.global_batch_size
      config.parallel.fsdp = self.fsdp
      config.parallel.microbatches = self.microbatches
    return config


def list_cases() -> list[V5eCase]:
  """Returns the cases of the table, the most informative first."""
  models = ("vit_s16", "vit_b16", "resnet50", "vit_l16")
  first = [V5eCase(model, "v5e:16x16", 4096) for model in models]
  small = [V5eCase(model, "v5e:2x4", 512) for model in models]
  cut = [
    V5eCase("vit_b16", "v5e:16x16", 4096, fsdp=8),
    V5eCase("vit_l16", "v5e:16x16", 4096, fsdp=8),
    V5eCase("vit_l16", "v5e:2x4", 512, fsdp=8),
    V5eCase("vit_b16", "v5e:2x4", 512, fsdp=8),
  ]
  middle = [V5eCase(model, "v5e:8x8", 4096) for model in models]
  return [*first, *cut, *small, *middle]


REQUIRED = ("out",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --out, --doc, --compile."""
  flags.DEFINE_string("out", None, "JSON file.", flag_values=flag_values)
  flags.DEFINE_string("doc", "", "Markdown file.", flag_values=flag_values)
  flags.DEFINE_bool(
    "compile",
    True,
    "Compile missing rows.",
    flag_values=flag_values,
  )


def compile_case(case: V5eCase) -> dict[str, Any]:
  """Returns the row of a case, with a status of FITS or TOO_LARGE."""
  facts = dataclasses.asdict(case)
  config = case.config()
  facts["config_hash"] = config_utils.config_hash(config)
  steps = programs.build(config, compile_only.topology_devices(case.topology))
  chip = accelerators.find_accelerator(case.topology)
  try:
    row = compile_only.compile_row(steps, "train", chip)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    why = next(line for line in str(error).splitlines() if line.strip())
    row = {"num_params": steps.cost.params, "why": why.strip()}
    return {**facts, "status": TOO_LARGE, **row}
  return {**facts, "status": FITS, **row}


def add_rows(path: pathlib.Path) -> None:
  """Compiles the cases that a file lacks, and writes it after each."""
  rows = read(path)
  for case in list_cases():
    if any(is_row_of(row, case) for row in rows):
      continue
    logging.info("compiling %s", case)
    row = compile_case(case)
    rows.append({**row, "environment": environment.collect()})
    if row["status"] == FITS:
      chip = accelerators.find_accelerator(case.topology)
      print(compile_only.format_row(row, chip), flush=True)
    text = writers.format_json({"rows": rows})
    writers.write_output("--out", str(path), text)


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the rows of a file; [] if it is missing."""
  return (
    json.loads(path.read_text(encoding="utf-8"))["rows"]
    if path.exists()
    else []
  )


def is_row_of(row: Mapping[str, Any], case: V5eCase) -> bool:
  """Returns whether a row belongs to a case."""
  return all(row[k] == v for k, v in dataclasses.asdict(case).items())


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns the table in Markdown, by model, chips and placement."""
  order = [case for model in _list_models(rows) for case in _sort_cases(model)]
  found = [row for case in order for row in rows if is_row_of(row, case)]
  return table.from_cells(
    "", _HEAD, map(_to_cells, found), num_left=3
  ).markdown()


def _list_models(rows) -> list[str]:
  params = {row["model"]: row["num_params"] for row in rows}
  return sorted(params, key=params.get)


def _sort_cases(model: str) -> Iterator[V5eCase]:
  size = lambda case: (count_chips(case.topology), case.fsdp)
  return iter(sorted((c for c in list_cases() if c.model == model), key=size))


def count_chips(topology: str) -> int:
  """Returns the number of chips of a topology, e.g. "v5e:4x8"."""
  rows, cols = topology.partition(":")[2].split("x")
  return int(rows) * int(cols)


def _to_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
  count = count_chips(row["topology"])
  batch = row["global_batch_size"]
  state = f"cut in {row['fsdp']}" if row["fsdp"] > 1 else "whole"
  first = (
    f"{row['model']} ({row['num_params'] / 1e6:.1f} M)",
    str(count),
    state,
    f"{batch:,}, {batch // count}",
  )
  if row["status"] != FITS:
    return (*first, TOO_LARGE, *("",) * 7)
  kinds = {}
  for one in row["collectives"]:
    kinds[one["kind"]] = kinds.get(one["kind"], 0) + one["count"]
  bounds = row["bounds_ms"]
  return (
    *first,
    f"{row['memory_bytes']['total'] / 1e9:.1f}",
    f"{row['flops_per_device'] / 1e12:.2f}",
    ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
    f"{row['sent_bytes'] / 1e6:.1f} ({row['needed_sent_bytes'] / 1e6:.1f})",
    *(f"{bounds[name]:.2f}" for name in ("compute", "memory", "links")),
    # XLA's count of memory traffic is no lower bound.
    f"{1e3 * batch / max(bounds['compute'], bounds['links']):,.0f}",
  )


def write_table(path: pathlib.Path, text: str, begin: str = BEGIN) -> None:
  """Replaces the table between the marks of a document."""
  before, _, rest = path.read_text(encoding="utf-8").partition(begin)
  _, end, after = rest.partition(END)
  if not end:
    raise ValueError(f"{path}: expected the marks {begin!r} and {END!r}")
  path.write_text(f"{before}{begin}{text}{END}{after}", encoding="utf-8")


def main(argv: list[str]) -> None:
  """Compiles and writes."""
  del argv
  values = flags.FLAGS
  cli.show_log()
  out = pathlib.Path(values.out)
  if values.compile:
    startup.log_start()
    add_rows(out)
  if values.doc:
    write_table(pathlib.Path(values.doc), format_table(read(out)))


if __name__ == "__main__":
  commands.start("compile-only v5e")
