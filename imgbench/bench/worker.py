"""Answers one request in a fresh process; see `processes` and `exchange`.

python -m imgbench.bench.worker RESULT.json < REQUEST.json

Kinds: "environment", "step" (a point of imgbench's own models), "micro" (all
microbenchmarks), "run" (one training run, for time to accuracy). Only steps and
runs on a data set import readers of data sets. A request with "join", the
arguments of `parallel.processes.join`, goes to several processes, which measure
together; each answers with its own times.
"""

from collections.abc import Callable
import contextlib
import functools
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from imgbench import environment
from imgbench import errors
from imgbench import host_memory
from imgbench import jax_options
from imgbench import living
from imgbench import plugins
from imgbench import timing
from imgbench.bench import exchange
from imgbench.bench import measure
from imgbench.bench import memory
from imgbench.bench import micro
from imgbench.bench import model_work
from imgbench.bench import rows
from imgbench.parallel import determinism
from imgbench.parallel import processes

CACHE_HIT = "/jax/compilation_cache/cache_hits"
_TRACED_STEPS = 5


def describe(
  request: dict[str, Any], group: processes.Group = processes.ALONE
) -> dict[str, Any]:
  """Returns {"environment": that of `environment.collect` with more keys}.

  Without the devices that the environment asks for: {"input_error": the fields
  of an InputError}.
  """
  del request, group
  try:
    with jax_options.platform_errors():
      facts = environment.collect()
  except errors.InputError as error:
    fields = [error.setting, error.expected, error.given, error.fix]
    return {"input_error": fields}
  return {
    "environment": {
      **facts,
      "host": platform.node(),
      "driver": _read_driver(),
      "keeps_memory": host_memory.keep(),
    }
  }


def measure_step(
  request: dict[str, Any], group: processes.Group = processes.ALONE
) -> dict[str, Any]:
  """Measures a point.

  Args:
    request: "key", fields of `rows.Key`; "recipe" of the config; "plan",
      fields of `measure.TimingPlan`; "plugins", arguments of `plugins.load`;
      "compile_cache" and "begin_cache", folders for compiled programs of the
      step and of its preparation, or ""; "profile", a folder or "".
    group: of the processes that measure it together.

  Returns:
    "process", fields of `rows.Process`; "params"; "bytes_accessed" or None;
    "attention", see `rows.Row`.
  """
  key = rows.Key(**request["key"])
  if key.matmul_precision != "default":
    jax.config.update("jax_default_matmul_precision", key.matmul_precision)
  # Random number generators may take longer to compile than a step: these
  # programs are not measured and are cached permanently.
  alone = group is processes.ALONE
  _keep_compiled(request["begin_cache"] if alone else "")
  hits = []
  jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event == CACHE_HIT else None
  )
  work = model_work.build(key, request["recipe"])
  hits.clear()
  # Processes that compile may wait for each other: all read a cache or none.
  folder = request["compile_cache"]
  shared = alone or all(group.exchange(pathlib.Path(folder).is_dir()))
  _keep_compiled(folder if shared else "")
  with timing.timed() as compiling:
    compiled = work.lower().compile()
  cached = bool(hits)
  memory.reset_peak()
  try:
    start = work.starter(compiled)
    plan = measure.TimingPlan(**request["plan"])
    times = measure.measure(
      start, model_work.block, plan, timing.clock, group.from_first
    )
    peak = _read_peak_bytes()
    if request.get("profile"):
      _profile(start, compiled, pathlib.Path(request["profile"]), group.first)
  finally:
    work.close()
  return {
    "process": {
      **times.to_process(),
      "compile_s": compiling.seconds,
      "compile_cached": cached,
      "peak_memory_bytes": peak,
    },
    "params": work.params,
    "attention": work.attention,
    "bytes_accessed": model_work.cost(compiled).get("bytes accessed"),
  }


def measure_micro(
  request: dict[str, Any], group: processes.Group = processes.ALONE
) -> dict[str, Any]:
  """Returns {"results": one for each of the request's "keys"}."""
  wanted = [rows.Key(**key) for key in request["keys"]]
  plan = measure.TimingPlan(**request["plan"])
  results = micro.measure_all(wanted, plan, timing.clock, group.from_first)
  return {"results": results}


def train_run(
  request: dict[str, Any], group: processes.Group = processes.ALONE
) -> dict[str, Any]:
  """Trains a config with a seed, see `time_to_accuracy.train`."""
  from imgbench.bench import time_to_accuracy

  assert group is processes.ALONE  # See `points.expand`.
  return time_to_accuracy.train(request)


HANDLERS = {
  "environment": describe,
  "step": measure_step,
  "micro": measure_micro,
  "run": train_run,
}


def _keep_compiled(folder: str) -> None:
  """Sets the folder of the compilation cache; "": no cache."""
  compilation_cache.reset_cache()
  jax.config.update("jax_compilation_cache_dir", folder or None)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _read_peak_bytes() -> int:
  """Returns the peak memory of a device, compiling included.

  On a CPU it is the peak of this process since compiling.
  """
  stats = [d.memory_stats() or {} for d in jax.local_devices()]
  known = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
  return max(known) if known else memory.read_peak_bytes()


def _profile(
  start: Callable, compiled: Any, folder: pathlib.Path, writes: bool
) -> None:
  """Writes an XPlane trace of a few steps and the compiled program."""
  trace = contextlib.nullcontext()
  if writes:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hlo.txt").write_text(compiled.as_text(), encoding="utf-8")
    trace = jax.profiler.trace(str(folder))
  with trace:
    for _ in range(_TRACED_STEPS):
      result = start()
    jax.block_until_ready(result)


def _read_driver() -> str:
  """Returns the driver's version in one line."""
  client = jax.devices()[0].client
  if client.platform != "gpu":
    return exchange.shorten(client.platform_version)
  command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv"]
  try:
    out = subprocess.run(
      command, capture_output=True, text=True, encoding="utf-8"
    ).stdout
  except OSError:
    out = ""
  found = re.findall(r"^[0-9.]+$", out, re.MULTILINE)
  version = exchange.shorten(client.platform_version)
  return f"{found[0]}; {version}" if found else version


def refuse_bad_input(handler: exchange.Handler) -> exchange.Handler:
  """Returns the handler with InputError turned into Refused, not a crash."""

  @functools.wraps(handler)
  def handle(request, *arguments):
    try:
      for loaded in request.get("plugins", ()):
        plugins.load(**loaded)
      with jax_options.platform_errors():
        return handler(request, *arguments)
    except errors.InputError as error:
      raise exchange.Refused(str(error)) from error

  return handle


def main(argv: list[str]) -> None:
  """Answers the request on standard input."""
  # It must not run on without the one that reads its result.
  parent = os.environ.get(exchange.PARENT)
  living.signal_when_parent_ends(signal.SIGKILL, parent and int(parent))
  host_memory.keep()
  determinism.reset_prng()
  request = json.load(sys.stdin)
  group: processes.Group = processes.ALONE

  def handle(request):
    nonlocal group
    if "join" in request:
      group = processes.join(*request["join"])
    return HANDLERS[request["kind"]](request, group)

  handlers = {request["kind"]: refuse_bad_input(handle)}
  result = exchange.answer(handlers, request)
  exchange.write_result(result, argv)
  if result["status"] == exchange.OK:
    group.close()
  else:
    group.fail(errors.RunError(result["message"]), errors.EXIT_FAILED)


if __name__ == "__main__":
  main(sys.argv)
