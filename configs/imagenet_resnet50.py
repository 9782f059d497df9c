"""ResNet-50 v1.5 on ImageNet: 90 epochs of SGD.

Command: imgbench train --config=configs/imagenet_resnet50.py \
  --config.data.data_dir=DIR --workdir=runs/imagenet_resnet50
DIR holds imagenet2012 and the sets derived from it, see imgbench.prepare.
Hardware and time: an accelerator with 8 or more chips; not timed here.
Result: not measured here over its full length. The recipe (Goyal et al. 2017,
arXiv:1706.02677, with stride in the 3x3 convolution) is published with 76 to
77% top-1.
"""

import ml_collections

from imgbench.configs import common


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  common.parse_options(arg)
  config = common.base_config()
  config.global_batch_size = 1024
  common.use_imagenet(config)
  config.model = dict(name="resnet50", dtype="auto")
  config.loss.label_smoothing = 0.1
  config.optim = dict(
    name="sgd", momentum=0.9, nesterov=True, weight_decay=5e-5
  )
  config.schedule = dict(name="warmup_cosine", peak=0.4, warmup="5 epochs")
  config.steps.total = "90 epochs"
  config.evaluation.every = "5 epochs"
  return config
