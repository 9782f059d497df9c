"""A small CNN on the embedded synthetic set `scenes`; no download.

Command: python -m imgbench.main --config=configs/scenes.py --workdir=runs/demo
"""

import ml_collections

from configs import common


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  common.parse_options(arg)
  config = common.base_config()
  config.global_batch_size = 200
  config.data.name = "scenes"
  config.model = dict(name="cnn", dtype="auto")
  config.augment = dict(
    mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), pad=4, flip="random", cutout=0
  )
  config.loss.label_smoothing = 0.1
  config.optim = dict(name="adamw", weight_decay=0.05)
  config.schedule = dict(name="warmup_cosine", peak=2e-3, warmup="5 percent")
  config.steps.total = "8 epochs"
  config.evaluation.every = "2 epochs"
  config.evaluation.sets = dict(
    val=dict(type="multilabel", split="validation"),
    v2=dict(type="multilabel", split="v2", every="never"),
    train_clean=dict(
      type="classification", split="train[:2000]", every="never"
    ),
  )
  config.checkpoint.best = "val/top1_accuracy"
  return config
