"""Counts the kernels of all benchmarked models, compiled for an H200.

imgbench compile-only h200 --target_config=FILE \\
    --out=experiments/results/compile_only_h200.json --doc=docs/gpu_programs.md

Needs no GPU, but the environment of `make compile-only-venv` and FILE, XLA's
description of the GPU; 9 minutes of 2 CPU cores. Compiles all rows again
(--models=...: those of some models; --nocompile: none), and writes the table
between two marks of the document from the file.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
import importlib
import pathlib
from typing import Any

from absl import flags
from absl import logging
import ml_collections

from imgbench import cli
from imgbench import commands
from imgbench import config_utils
from imgbench import environment
from imgbench import errors
from imgbench import startup
from imgbench import writers
from imgbench.bench import accelerators
from imgbench.bench import compile_only
from imgbench.bench.hlo import kernels
from imgbench.bench.hlo import programs
from imgbench.configs import bench
from imgbench.experiments import compile_only_v5e
from imgbench.tables import table

BEGIN = "<!-- compile_only_h200 -->\n"
TOPOLOGY = "h200"
# Convnets trained by SGD; the others use AdamW.
_SGD = ("resnet18", "resnet50", "efficientnet_b0")
_HEAD = (
  *("model (parameters)", "step", "batch", "kernels (< 1 MB)", "GB", "TFLOP"),
  *("roofline, ms", "cuDNN, cuBLAS, other", "layout copies (GB)"),
  *("float32 products (GB)", "scatter, sort, while", "host callbacks"),
  "temporary, GB",
)


@dataclasses.dataclass(frozen=True)
class H200Case:
  """The steps of one model.

  Attributes:
    model: name.
    recipe: config with data, augmentation and optimizer.
    global_batch_size: in training and evaluation.
  """

  model: str
  recipe: str
  global_batch_size: int = 256

  def config(self) -> ml_collections.ConfigDict:
    """Returns the recipe with this model and batch."""
    config = importlib.import_module(
      f"imgbench.configs.{self.recipe}"
    ).get_config()
    settings = {"widths": (64, 256, 256)} if self.model == "whitened" else {}
    with config.unlocked():
      if not self.model.startswith("vit"):
        config.model = dict(dtype="auto", **settings)
      config.model.name = self.model
      config.global_batch_size = self.global_batch_size
      config.evaluation.batch_size = self.global_batch_size
    return config


def list_cases() -> list[H200Case]:
  """Returns the cases of the table in order."""
  imagenet = {True: "imagenet_resnet50", False: "imagenet_vit_s16"}
  return [
    *(H200Case(name, imagenet[name in _SGD]) for name in bench.IMAGENET_MODELS),
    H200Case("wide_resnet28_10", "cifar10_resnet18"),
    H200Case("whitened", "cifar10_fast", 2000),
  ]


REQUIRED = ("out",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --out, --doc, --compile, --target_config and --models."""
  compile_only_v5e.define_flags(flag_values)
  compile_only.define_target_flag(flag_values)
  flags.DEFINE_list(
    "models", [], "Models to compile; empty: all.", flag_values=flag_values
  )


def compile_rows(
  path: pathlib.Path, target_config: str, models: Sequence[str]
) -> None:
  """Compiles cases, and writes the file after each, with the other rows."""
  known = [case.model for case in list_cases()]
  if not set(models) <= set(known):
    expected = f"some of {', '.join(known)}"
    raise errors.InputError("--models", expected, ",".join(models))
  devices = compile_only.topology_devices(TOPOLOGY, target_config)
  startup.log_start()
  chip = accelerators.find_accelerator(TOPOLOGY)
  target = pathlib.Path(target_config).read_bytes()
  facts = {
    "topology": TOPOLOGY,
    "target_config_sha256": hashlib.sha256(target).hexdigest(),
    "compiler_options": compile_only.GPU_OPTIONS,
    "roofline_bytes_per_s": kernels.BYTES_PER_S,
    "roofline_flops_per_s": kernels.FLOPS_PER_S,
  }
  for case in list_cases():
    if models and case.model not in models:
      continue
    kept = [r for r in compile_only_v5e.read(path) if r["model"] != case.model]
    rows = kept + compile_case(case, devices, chip)
    rows = [
      row for one in list_cases() for row in rows if row["model"] == one.model
    ]
    text = writers.format_json({**facts, "rows": rows})
    writers.write_output("--out", str(path), text)


def compile_case(
  case: H200Case, devices: Sequence[Any], chip: accelerators.Accelerator
) -> list[dict[str, Any]]:
  """Returns the rows of a case, one for each of compile_only.PROGRAMS."""
  config = case.config()
  steps = programs.build(config, devices)
  facts = dataclasses.asdict(case)
  facts["config_hash"] = config_utils.config_hash(config)
  rows = []
  for program in compile_only.PROGRAMS:
    logging.info("compiling %s: %s", case.model, program)
    row = compile_only.compile_row(steps, program, chip)
    print(compile_only.format_row(row, chip), flush=True)
    rows.append(facts | row | {"environment": environment.collect()})
  return rows


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns the table in Markdown."""
  return table.from_cells(
    "", _HEAD, map(_to_cells, rows), num_left=2
  ).markdown()


def _to_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
  found = row["kernels"]
  giga = lambda number: f"{number / 1e9:.2f}"
  libraries = dict.fromkeys(("__cudnn", "__cublas", ""), 0)
  for op in found["matrix_ops"]:
    library = op["kind"].partition("$")[0]
    libraries[library if library in libraries else ""] += op["count"]
  return (
    f"{row['model']} ({row['num_params'] / 1e6:.1f} M)",
    row["program"],
    f"{row['global_batch_size']:,}",
    f"{found['count']:,} ({found['small_count']:,})",
    giga(found["bytes"]),
    f"{found['flops'] / 1e12:.2f}",
    f"{found['roofline_ms']:.2f}",
    ", ".join(map(str, libraries.values())),
    f"{found['layout_count']} ({giga(found['layout_bytes'])})",
    f"{found['float32_matrix_ops']} ({giga(found['float32_operand_bytes'])})",
    f"{found['scatters']}, {found['sorts']}, {found['whiles']}",
    str(found["host_callbacks"]),
    giga(row["memory_bytes"]["temporary"]),
  )


def main(argv: list[str]) -> None:
  """Compiles and writes."""
  del argv
  values = flags.FLAGS
  cli.show_log()
  out = pathlib.Path(values.out)
  if values.compile:
    compile_rows(out, values.target_config, values.models)
  if values.doc:
    text = format_table(compile_only_v5e.read(out))
    compile_only_v5e.write_table(pathlib.Path(values.doc), text, BEGIN)


if __name__ == "__main__":
  commands.start("compile-only h200")
