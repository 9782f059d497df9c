"""ResNet-18 with a CIFAR stem on CIFAR-10, the classic SGD recipe.

Command: imgbench train --config=configs/cifar10_resnet18.py \
  --config.data.data_dir=DIR --workdir=runs/cifar10_resnet18
Hardware and time: meant for an accelerator; 2 CPU cores take about 25 minutes
for each of the 200 epochs, so shorten it there:
--config.steps.total="20 steps".
Options (after a colon): `v4` and `v6` also measure the drop on that version of
CIFAR-10.1, see `common.use_cifar10`.
Result: not measured over its full length.
"""

import ml_collections

from imgbench.configs import cifar10_fast
from imgbench.configs import common


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  options = common.parse_options(arg, v4=False, v6=False)
  config = common.base_config()
  config.global_batch_size = 128
  config.model = dict(
    name="resnet18", dtype="auto", stem="cifar", width=64, norm_momentum=0.9
  )
  config.augment = dict(
    mean=cifar10_fast.MEAN,
    std=cifar10_fast.STD,
    pad=4,
    flip="random",
    cutout=0,
  )
  config.optim = dict(
    name="sgd", momentum=0.9, nesterov=True, weight_decay=5e-4
  )
  config.schedule = dict(name="warmup_cosine", peak=0.1, warmup="5 percent")
  config.steps.total = "200 epochs"
  config.evaluation.every = "5 epochs"
  common.use_cifar10(config, options)
  config.checkpoint.every = "5 epochs"
  return config
