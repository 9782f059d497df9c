"""Evaluates the last checkpoint of an ImageNet run on every version of it.

Command: python -m imgbench.main \
  --config=configs/evaluate.py:from=runs/imagenet_resnet50 \
  --config.data.data_dir=DIR --workdir=runs/evaluated
Nothing is trained; the other workdir is only read.
Hardware and time: one pass over each set.
Result: those of the checkpoint.
"""

import json
import pathlib

import ml_collections

from imgbench.configs import common


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """The config of the other run, with the evaluations of `use_imagenet`."""
  options = common.parse_options(arg, **{"from": ""})
  workdir = options["from"]
  config = common.base_config()
  common.use_imagenet(config)
  if not workdir:
    return config
  path = pathlib.Path(workdir) / "config.json"
  if not path.is_file():
    raise ValueError(
      f"from={workdir}: expected the workdir of a run with {path}"
    )
  trained = ml_collections.ConfigDict(
    json.loads(path.read_text(encoding="utf-8"))
  )
  for name in trained:
    if name not in ("evaluation", "checkpoint", "logging"):
      config[name] = trained[name]
  size = trained.input.size
  config.evaluation.input.size = size
  config.evaluation.batch_size = trained.evaluation.batch_size
  config.checkpoint.init_from = workdir
  return config
