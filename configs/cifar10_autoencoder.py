"""A denoising autoencoder on CIFAR-10.

Command: imgbench train --config=configs/cifar10_autoencoder.py \
  --config.data.data_dir=DIR --workdir=runs/cifar10_autoencoder
Hardware and time: 2 CPU cores, about 90 s of CPU time for each of 5 epochs.
Result: not measured over its full length. To see how the errors of one class
differ: --config.evaluation.sets.test.abnormal="('frog',)".
"""

import ml_collections

from imgbench.configs import cifar10_fast
from imgbench.configs import common


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  common.parse_options(arg)
  config = common.base_config()
  config.global_batch_size = 128
  config.data.name = "cifar10"
  config.model = dict(
    name="autoencoder", dtype="auto", widths=(32, 64), code=32, noise=0.2
  )
  config.augment.update(
    mean=cifar10_fast.MEAN, std=cifar10_fast.STD, flip="random"
  )
  config.loss = dict(name="mse")
  config.optim = dict(name="adamw", weight_decay=1e-4)
  config.schedule = dict(name="warmup_cosine", peak=2e-3, warmup="10 percent")
  config.steps.total = "5 epochs"
  config.evaluation.sets = dict(
    test=dict(type="reconstruction", split="test"),
    train_clean=dict(
      type="reconstruction", split="train[:5000]", every="never"
    ),
  )
  config.checkpoint.best = "test/mse"
  return config
