"""ViT-S/16 on ImageNet: 90 epochs of AdamW with RandAugment and mixup.

Command: imgbench train --config=configs/imagenet_vit_s16.py \
  --config.data.data_dir=DIR --workdir=runs/imagenet_vit_s16
DIR holds imagenet2012 and the sets derived from it, see imgbench.prepare.
Hardware and time: an accelerator with 8 or more chips; not timed here.
Result: not measured here over its full length. The recipe (Beyer et al. 2022,
arXiv:2205.01580) is published with 76.5% top-1 after 90 epochs.
"""

import ml_collections

from imgbench.configs import common


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  common.parse_options(arg)
  config = common.base_config()
  config.global_batch_size = 1024
  common.use_imagenet(config)
  # The last hundredth is there to choose settings by: split "minival".
  config.data.train_split = "train[:99%]"
  config.input = dict(
    size=224,
    area=(0.05, 1.0),
    randaugment_layers=2,
    randaugment_magnitude=10.0,
  )
  # Images from -1 to 1.
  config.augment.update(mean=(0.5,) * 3, std=(0.5,) * 3, mixup=0.2)
  config.model = dict(
    name="vit_s16", dtype="auto", pooling="gap", posemb="sincos2d"
  )
  config.optim = dict(
    name="adamw", weight_decay=1e-4, independent_decay=True, clip_norm=1.0
  )
  config.schedule = dict(name="warmup_cosine", peak=1e-3, warmup="10000 steps")
  config.steps.total = "90 epochs"
  config.evaluation.every = "5 epochs"
  config.ema.decay = 0.9999
  return config
