"""Evaluates a checkpoint of any run on its own and further sets.

Command: imgbench evaluate runs/demo --workdir=runs/evaluated
It starts imgbench train \
  --config=configs/evaluate.py:from=runs/demo --workdir=runs/evaluated
from=RUN is the newest checkpoint, from=RUN@STEP that of a step. A run on
ImageNet gets the sets of `common.use_imagenet`, too. model=NAME,from=FILE are
weights that imgbench/weights/published.toml or the config.json beside them
describes, on these sets.
Nothing is trained; the other workdir is only read.
Hardware and time: one pass over each set. The training split is opened, too.
Result: those of the checkpoint.
"""

from collections.abc import Mapping

import ml_collections

from imgbench import checkpoints
from imgbench import errors
from imgbench import paths
from imgbench import run_files
from imgbench.configs import common
from imgbench.weights import convert
from imgbench.weights import files
from imgbench.weights import published

# Of section init: all of the source, as it is.
_WHOLE = dict(skip=(), map=(), train=False)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """The config of the other run, with its checkpoint as the last step."""
  model, comma, rest = (arg or "").partition(",from=")
  if comma and model.startswith("model="):
    return _read_weights(model.removeprefix("model="), rest)
  # Folders of sweeps have commas.
  key, _, run = (arg or "").partition("=")
  if key != "from":
    common.parse_options(arg, **{"from": ""})
  config = common.base_config()
  if not run:
    common.use_imagenet(config)
    return config
  workdir, step = checkpoints.check_other(run, "from")
  path = workdir / run_files.CONFIG
  trained = run_files.read_json(path)
  if not isinstance(trained, dict):
    raise errors.InputError("from", f"a run with {path}", run)
  for name, value in trained.items():
    if name in ("checkpoint", "logging"):
      continue
    if isinstance(value, Mapping):
      base = config.get(name, {})
      # Runs of older versions have fewer keys; another loss has other ones.
      if name != "loss" or base["name"] == value.get("name"):
        value = {**base, **value}
    elif isinstance(value, list):
      value = tuple(value)
    with config.ignore_type():
      config[name] = value
  if _drop_version(config.data.name) == common.IMAGENET:
    _add_sets(config.evaluation)
  step = checkpoints.list_steps(workdir)[-1] if step is None else step
  config.steps.total = f"{step} steps"
  config.schedule.warmup = "never"  # It may be longer.
  workdir, _ = checkpoints.split_run(run)
  source = f"{workdir}@{step}"
  config.init = {**config.init.to_dict(), **_WHOLE, "source": source}
  return config


def _read_weights(name: str, file: str) -> ml_collections.ConfigDict:
  """Returns the config of weights on ImageNet. Raises InputError."""
  path = paths.reach(file, "--from")
  found = published.find(name, path)
  names = convert.choose(files.read_file(path), found.model)
  config = common.base_config()
  common.use_imagenet(config, found.size)
  config.augment.update(mean=found.mean, std=found.std)
  crop = dict(crop_fraction=found.crop_fraction, method=found.method)
  config.evaluation.input.update(crop)
  config.model = {"name": found.model, "dtype": "auto", **names.settings}
  config.optim.name = "sgd"  # Not used.
  config.schedule = dict(name="constant", peak=1.0)
  config.steps.total = "never"
  config.init = {**_WHOLE, "source": file, "checkpoint": name}
  return config


def _add_sets(evaluation: ml_collections.ConfigDict) -> None:
  """Adds those of `use_imagenet` that a run has not evaluated."""
  derived = common.base_config()
  common.use_imagenet(derived)
  sets, shift = evaluation.sets, derived.evaluation.shift
  # Of sets that a flag did not remove, whose entry is a text.
  aliases = {_identify(entry): alias for alias, entry in sets.items() if entry}
  found = {}
  for alias, entry in derived.evaluation.sets.items():
    if alias not in sets and _identify(entry) not in aliases:
      sets[alias] = entry
    if alias in sets or _identify(entry) in aliases:
      found[alias] = aliases.get(_identify(entry), alias)
  if not evaluation.shift and found.get(shift.base):
    compared = [found[alias] for alias in shift.sets if alias in found]
    evaluation.shift = dict(base=found[shift.base], sets=tuple(compared))


def _identify(entry: Mapping) -> tuple[str, str]:
  name = entry.get("name") or common.IMAGENET
  return _drop_version(name), entry["split"]


def _drop_version(name: str) -> str:
  """Returns the name of a data set without its ":VERSION"."""
  return name.partition(":")[0]
