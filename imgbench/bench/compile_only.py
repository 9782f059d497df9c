"""Compiles the steps of a config for TPUs and GPUs that are not attached.

imgbench bench compile-only --topology=v5e:16x16 \\
    --config=configs/imagenet_vit_s16.py --config.parallel.fsdp=8 \\
    [--program=train] [--out=FILE.json]
imgbench bench compile-only --topology=h200 --target_config=FILE \\
    --config=configs/imagenet_resnet50.py --config.global_batch_size=256

XLA's compilers for TPUs (pip install 'imgbench[tpu]') and GPUs (make
compile-only-venv) run on any Linux machine. FILE describes the GPU, as text of
XLA's GpuTargetConfigProto. For GPUs the kernels are counted too, with their
bytes and FLOPs (`kernels`).

Prints for the training and the evaluation step: memory per device, FLOPs by our
table and by XLA, every collective with its bytes and the bytes needed, and the
time that compute units, memory and links need at their published peaks. Nothing
is run; only the compiler is timed.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import importlib.util
import os
import pathlib
import re
from typing import Any

from absl import flags
from absl import logging
import jax

from imgbench import cli
from imgbench import commands
from imgbench import config_utils
from imgbench import environment
from imgbench import errors
from imgbench import startup
from imgbench import timing
from imgbench import writers
from imgbench.bench import accelerators
from imgbench.bench.hlo import collectives
from imgbench.bench.hlo import kernels
from imgbench.bench.hlo import programs
from imgbench.tables import table

PROGRAMS = ("train", "eval", "infer")
# Autotuning, which Triton's products need, is impossible without the device.
GPU_OPTIONS = {
  "xla_gpu_autotune_level": 0,
  "xla_gpu_enable_triton_gemm": False,
}
# Lets libtpu start without a TPU.
_NO_TPU_HERE = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_ACCELERATOR_TYPE": "v5litepod-8",
}


REQUIRED = ("config", "topology")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --config (of imgbench.main), --topology and the others."""
  cli.define_config_flag(flag_values)
  flags.DEFINE_string(
    "topology",
    None,
    "Chips and their arrangement, e.g. v5e:2x4, v5e:16x16, v6e:8x8; or h200.",
    flag_values=flag_values,
  )
  define_target_flag(flag_values)
  flags.DEFINE_multi_enum(
    "program",
    list(PROGRAMS[:2]),
    PROGRAMS,
    "What to compile; may be given several times.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "out", "", "JSON file of the rows; empty: none.", flag_values=flag_values
  )


def define_target_flag(flag_values: flags.FlagValues) -> None:
  """Defines --target_config."""
  flags.DEFINE_string(
    "target_config",
    "",
    "For a GPU: file with XLA's description (GpuTargetConfigProto as text).",
    flag_values=flag_values,
  )


def topology_devices(topology: str, target_config: str = "") -> list:
  """Returns the devices of a topology to compile for.

  Args:
    topology: e.g. "v5e:4x4", or "h200" for one GPU.
    target_config: file that describes the GPU.

  Raises:
    InputError: no compiler for the chip, an unknown arrangement, or a file that
      does not describe the GPU.
  """
  chip = accelerators.find_accelerator(topology)
  if chip.is_gpu:
    return _gpu_devices(topology, chip, target_config)
  for name, value in _NO_TPU_HERE.items():
    os.environ.setdefault(name, value)
  # Devices of this machine are not used.
  jax.config.update("jax_platforms", "cpu")
  from jax.experimental import topologies

  try:
    return list(
      topologies.get_topology_desc(
        platform="tpu", topology_name=topology
      ).devices
    )
  except Exception as error:  # What it raises differs by version.
    text = str(error).strip().splitlines()
    why, fix = text[0] if text else type(error).__name__, ""
    if "lockfile" in why:
      why = "another process has libtpu loaded"
      fix = "wait for it, or without a TPU set ALLOW_MULTIPLE_LIBTPU_LOAD=1"
    elif not _has_libtpu():
      why, fix = "no libtpu", "pip install 'jax[tpu]'"
    expected = "a topology that libtpu compiles for"
    given = f"{topology} ({why})"
    raise errors.InputError("--topology", expected, given, fix) from error


def _has_libtpu() -> bool:
  return importlib.util.find_spec("libtpu") is not None


def _gpu_devices(topology, chip, target_config) -> list:
  if topology != chip.name:
    expected = f"{chip.name}, one GPU"
    raise errors.InputError("--topology", expected, repr(topology))
  flag, expected = "--target_config", "a text file with a GpuTargetConfigProto"
  if not target_config:
    raise errors.InputError(flag, expected, "none")
  try:
    text = pathlib.Path(target_config).read_text(encoding="utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise errors.InputError(flag, expected, error) from error
  jax.config.update("jax_platforms", "cpu")
  from jax.experimental import topologies

  try:
    devices = topologies.get_topology_desc(
      platform="cuda",
      topology_name="",
      topology="1x1x1",
      target_config=text,
    ).devices
  except NotImplementedError as error:
    needed, fix = "a chip whose compiler is installed", "make compile-only-venv"
    raise errors.InputError("--topology", needed, topology, fix) from error
  except jax.errors.JaxRuntimeError as error:
    why = str(error).splitlines()[0]
    raise errors.InputError(flag, expected, why) from error
  kind = devices[0].device_kind
  if not kind.startswith(chip.device_kind):
    expected = f"a description of {chip.device_kind}"
    raise errors.InputError(flag, expected, repr(kind))
  return list(devices)


def compile_row(
  steps: programs.Steps, program: str, chip: accelerators.Accelerator
) -> dict[str, Any]:
  """Compiles a program and returns its facts for JSON.

  Args:
    steps: of a config, on devices of a topology.
    program: one of PROGRAMS.
    chip: kind of the devices; for GPUs the kernels are counted too.
  """
  training = program == "train"
  lower, need = {
    "train": (steps.lower_training, steps.training_need),
    "eval": (steps.lower_evaluation, steps.evaluation_need),
    "infer": (steps.lower_inference, steps.inference_need),
  }[program]
  lowered, needed = lower(), need()
  with timing.timed() as compiling:
    compiled = lowered.compile(GPU_OPTIONS if chip.is_gpu else None)
  program_text = compiled.as_text()
  found = collectives.find(program_text)
  devices = steps.strategy.num_devices
  batch = steps.settings.recipe.global_batch_size
  flops_per_image = steps.cost.training_flops
  if not training:
    batch = steps.evaluation_batch_size
    flops_per_image = steps.cost.forward_flops
    if program == "eval" and steps.settings.evaluation.flip_average:
      flops_per_image *= 2
  counted = kernels.summarize(program_text) if chip.is_gpu else {}
  # XLA has no cost analysis for a GPU that is not attached.
  xla = compiled.cost_analysis() or {
    "flops": counted["flops"],
    "bytes accessed": counted["bytes"],
  }
  result = {
    "program": program,
    "model": steps.settings.recipe.model.name,
    "num_devices": devices,
    "fsdp": steps.settings.parallel.fsdp,
    "global_batch_size": batch,
    "num_params": steps.cost.params,
    "compile_s": compiling.seconds,
    "memory_bytes": count_memory(compiled),
    "flops_per_device": flops_per_image * batch / devices,
    "xla_flops_per_device": xla["flops"],
    "accessed_bytes_per_device": xla["bytes accessed"],
    "collectives": group_alike(found),
    "needed": group_alike(needed),
    "sent_bytes": collectives.sum_sent(found),
    "needed_sent_bytes": collectives.sum_sent(needed),
  }
  if counted:
    result["kernels"] = counted
  return result | {"bounds_ms": compute_bounds(result, chip)}


def count_memory(compiled: jax.stages.Compiled) -> dict[str, int]:
  """Returns a program's memory on each device in bytes: parts and total."""
  found = compiled.memory_analysis()
  parts = {
    "arguments": found.argument_size_in_bytes,
    "results": found.output_size_in_bytes - found.alias_size_in_bytes,
    "temporary": found.temp_size_in_bytes,
    "program": found.generated_code_size_in_bytes,
  }
  return parts | {"total": sum(parts.values())}


def compute_bounds(
  row: Mapping[str, Any], chip: accelerators.Accelerator
) -> dict[str, float]:
  """Returns milliseconds of compute, memory and links alone, each at its peak.

  Compute: FLOPs of our table at the bfloat16 peak. Memory: bytes that XLA
  counts as read and written, including those that stay in on-chip memory.
  Links: bytes that a device sends for collectives, over all links at once.
  """
  return {
    "compute": 1e3 * row["flops_per_device"] / chip.flops_per_s,
    "memory": 1e3 * row["accessed_bytes_per_device"] / chip.memory_bytes_per_s,
    "links": 1e3 * row["sent_bytes"] / chip.link_bytes_per_s,
  }


def group_alike(found: list[collectives.Collective]) -> list[dict[str, Any]]:
  """Returns one row for collectives that are alike, the largest first."""
  rows = {}
  for one in found:
    source = re.sub(r"\d+", "#", one.source.split("/", 1)[-1])
    key = one.kind, one.dtypes, one.group_size, source
    row = rows.setdefault(
      key,
      {
        "kind": one.kind,
        "dtype": one.dtypes,
        "group_size": one.group_size,
        "count": 0,
        "asynchronous": 0,
        "elements": 0,
        "bytes": 0,
        "sent_bytes": 0.0,
        "source": source,
      },
    )
    row["count"] += one.times
    row["asynchronous"] += one.times * one.asynchronous
    row["elements"] += one.elements
    row["bytes"] += one.num_bytes
    row["sent_bytes"] += one.sent_bytes
  return sorted(rows.values(), key=lambda row: -row["sent_bytes"])


def format_row(row: Mapping[str, Any], chip: accelerators.Accelerator) -> str:
  """Returns a row as text."""
  mib = lambda number: f"{number / 2**20:,.1f} MiB"
  tera = lambda number: f"{number / 1e12:.3f} TFLOP"
  memory = row["memory_bytes"]
  parts = ", ".join(f"{k} {mib(v)}" for k, v in memory.items() if k != "total")
  share = memory["total"] / chip.memory_bytes
  ratio = row["sent_bytes"] / max(row["needed_sent_bytes"], 1)
  lines = [
    f"{row['program']}: {row['model']} ({row['num_params']:,} parameters),"
    f" {row['num_devices']} x {chip.name}, fsdp {row['fsdp']}, batch"
    f" {row['global_batch_size']:,}; compiled in {row['compile_s']:.0f} s",
    f"  memory of a device: {mib(memory['total'])} ({share:.0%}): {parts}",
    f"  FLOPs of a device: {tera(row['flops_per_device'])} (XLA:"
    f" {tera(row['xla_flops_per_device'])})",
    f"  collectives, a device sends {mib(row['sent_bytes'])}:",
    *_format_collectives(row["collectives"], mib),
    f"  needed {mib(row['needed_sent_bytes'])}, found {ratio:.2f} of it:",
    *_format_collectives(row["needed"], mib),
  ]
  if "kernels" in row:
    lines.append(kernels.format_summary(row["kernels"]))
  times = ", ".join(f"{k} {v:.2f} ms" for k, v in row["bounds_ms"].items())
  return "\n".join([*lines, f"  at the chip's peaks: {times}"])


def _format_collectives(rows: Sequence[Mapping[str, Any]], mib) -> list[str]:
  columns = (
    table.number("count", "times"),
    table.Column("kind"),
    table.Column("dtype"),
    table.number("group_size", "of"),
    table.number("bytes", "size", mib),
    table.Column("source", format=lambda source: source[-60:]),
  )
  lines = table.Table("", columns, rows).lines() if rows else []
  return [f"    {line}" for line in lines]


def main(argv: list[str]) -> None:
  """Compiles, prints and writes the rows."""
  del argv
  values = flags.FLAGS
  cli.show_log()
  config = values.config
  chip = accelerators.find_accelerator(values.topology)
  devices = topology_devices(values.topology, values.target_config)
  startup.log_start(
    config,
    values["config"].config_filename,
    compiled_for=devices[0].platform,
  )
  steps = programs.build(config, devices)
  rows = []
  for program in values.program:
    logging.info("compiling %s for %s", program, values.topology)
    rows.append(compile_row(steps, program, chip))
    print(format_row(rows[-1], chip), flush=True)
  if values.out:
    found = {
      "topology": values.topology,
      "config": values["config"].config_filename,
      "config_hash": config_utils.config_hash(config),
      "rows": rows,
      "environment": environment.collect(),
    }
    text = writers.format_json(found)
    writers.write_output("--out", values.out, text)


if __name__ == "__main__":
  commands.start("bench compile-only")
