"""A run of seconds on the embedded synthetic set, to try things out.

Command: imgbench train --config=configs/tiny.py --workdir=runs/tiny
Hardware and time: any CPU, about 10 s, most of it compiling.
Result: none worth citing; 16 steps on 96 images of 16x16 pixels.
"""

import ml_collections

from imgbench.configs import common


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """16 steps of 24 examples; saved every 4, evaluated every 8 steps."""
  common.parse_options(arg)
  config = common.base_config()
  config.global_batch_size = 24
  config.data.name = "scenes"
  config.data.options = dict(
    image_size=16, train_examples=96, validation_examples=72, v2_examples=48
  )
  config.model = dict(name="cnn", dtype="float32", widths=(8,), stem_size=3)
  config.augment.update(pad=2, flip="random")
  config.optim = dict(name="adamw", weight_decay=0.05)
  config.schedule = dict(name="warmup_cosine", peak=1e-2, warmup="2 steps")
  config.steps.total = "16 steps"
  config.logging.every = "3 steps"
  config.evaluation.every = "8 steps"
  config.evaluation.batch_size = 32
  config.evaluation.sets = dict(
    val=dict(type="multilabel", split="validation"),
    v2=dict(type="classification", split="v2", every="never"),
  )
  config.checkpoint.every = "4 steps"
  config.checkpoint.best = "val/top1_accuracy"
  config.parallel.devices = 1
  return config


def get_hyper(hyper):
  """Learning rates and seeds: 4 runs, to try sweeps."""
  return hyper.product(
    [hyper.sweep("schedule.peak", [1e-2, 1e-3]), hyper.sweep("seed", range(2))]
  )
