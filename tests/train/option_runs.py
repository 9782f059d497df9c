"""Runs of one step with options of JAX; see tests/jax_options_test.py.

python -m tests.train.option_runs < groups

Groups are a JSON list of {name: value}, set together. A group that is refused
or changes numbers is split in halves, down to one option. Prints a line of JSON
for each group that is not split: {"options": the group, "same": whether numbers
are the usual ones, "recorded": options of environment.json} or {"options",
"error": setting or type, "lines": of the message}.
"""

from collections.abc import Iterator
import enum
import json
import math
import sys
import tempfile

import jax

from imgbench import cli
from imgbench import errors
from imgbench.configs import tiny
from imgbench.train import loop
from tests.train import processes

NUMBERS = ("train/loss", "train/grad_norm", "val/nll")


def list_options() -> dict[str, list]:
  """Returns name -> other values, of JAX's boolean and enum options."""
  found = {}
  for name, (kind, _, settings) in sorted(jax.config.meta.items()):
    if kind is bool:
      values = [False, True]
    elif kind == "enum":
      values = settings["enum_values"]
    elif kind == "enum_class":
      values = [value.value for value in settings["enum_class"]]
    else:
      continue
    usual = _plain(jax.config.values[name])
    found[name] = [value for value in values if value != usual]
  return found


def _plain(value):
  return value.value if isinstance(value, enum.Enum) else value


def _train() -> dict:
  """Returns metrics of a tiny run, and the options that it recorded."""
  config = tiny.get_config()
  config.data.options.update(
    train_examples=24, validation_examples=24, v2_examples=24
  )
  config.steps.total = "1 steps"
  config.schedule.warmup = "never"
  config.logging.update(report=False, tensorboard=False)
  config.evaluation.sets = dict(val=dict(split="validation"))
  config.checkpoint.best = ""
  with tempfile.TemporaryDirectory() as workdir:
    loop.train_and_evaluate(config, workdir)
    (record,) = processes.read_metrics(workdir)
    recorded = processes.read_json(workdir, "environment.json")["jax_options"]
  return {**record, "recorded": recorded}


def _run(options: dict) -> dict:
  """Returns what `_train` does, with options, or its error."""
  before = {name: jax.config.values[name] for name in options}
  jax.clear_caches()
  try:
    for name, value in options.items():
      is_enum = isinstance(before[name], enum.Enum)
      jax.config.update(name, type(before[name])(value) if is_enum else value)
    return _train()
  except errors.InputError as error:
    return {"error": error.setting, "lines": len(str(error).splitlines())}
  except Exception as error:
    text = f"{type(error).__name__}: {error}"
    return {"error": text[:300], "lines": len(text.splitlines())}
  finally:
    for name, value in before.items():
      jax.config.update(name, value)


def _try(options: dict, usual: dict) -> Iterator[dict]:
  found = _run(options)
  close = "error" not in found and all(
    math.isclose(found[name], usual[name], rel_tol=1e-5) for name in NUMBERS
  )
  if close or len(options) == 1:
    kept = {k: found[k] for k in ("error", "lines", "recorded") if k in found}
    yield {"options": options, "same": close, **kept}
    return
  half = len(options) // 2
  items = list(options.items())
  for part in (items[:half], items[half:]):
    yield from _try(dict(part), usual)


def main() -> None:
  """Tries the groups on standard input."""
  cli.keep_compiled("default")
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_disable_most_optimizations", True)
  usual = _train()
  for options in json.load(sys.stdin):
    print(f"trying {options}", file=sys.stderr, flush=True)
    for outcome in _try(options, usual):
      print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
  main()
