"""ImageNet in miniature: the real pipeline on generated images.

Command: imgbench train --config=configs/imagenet_fake.py \
  --config.data.data_dir=DIR --workdir=runs/imagenet_fake
DIR is prepared without any download:
imgbench fake-imagenet --out=MANUAL
imgbench prepare --manual_dir=MANUAL --data_dir=DIR \
  --dataset=...  (docs/imagenet.md has the whole commands)
Hardware and time: any CPU, a few minutes.
Result: none worth citing. The images are SYNTHETIC; data sets, evaluators and
report are those of the real ImageNet.
"""

import ml_collections

from imgbench.configs import common


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  common.parse_options(arg)
  config = common.base_config()
  config.global_batch_size = 128
  common.use_imagenet(config, size=32)
  config.input.update(randaugment_layers=1, randaugment_magnitude=5.0)
  config.model = dict(name="cnn", dtype="auto", widths=(32, 64), stem_size=3)
  config.augment.update(mixup=0.1, cutmix=0.1)
  config.optim = dict(name="adamw", weight_decay=0.05)
  config.schedule = dict(name="warmup_cosine", peak=3e-3, warmup="10 percent")
  config.steps.total = "100 steps"
  config.logging.every = "20 steps"
  config.evaluation.every = "never"
  config.ema.decay = 0.99
  return config
