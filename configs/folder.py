"""A ResNet-18 on your own images, in a folder for each class.

Command: imgbench train --config=configs/folder.py \
  --config.data.data_dir=DIR --workdir=runs/mine
DIR holds train/CLASS/*.jpg and val/CLASS/*.jpg, or CLASS/*.jpg, of which a
tenth is for validation; PNG works too. --config.input.size is the side of the
images.
Hardware and time: made for one accelerator; 5,000 images of 64 pixels take some
minutes per epoch on CPUs.
Result: depends on the images; a start, not a tuned recipe.
"""

import ml_collections

from imgbench.configs import common


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  common.parse_options(arg)
  config = common.base_config()
  config.global_batch_size = 64
  config.data.name = "folder"
  config.model = dict(name="resnet18", dtype="auto")
  config.augment.update(
    mean=common.IMAGENET_MEAN, std=common.IMAGENET_STD, flip="random"
  )
  config.input = dict(size=64)
  config.optim = dict(name="sgd", momentum=0.9, weight_decay=5e-4)
  config.schedule = dict(name="warmup_cosine", peak=0.1, warmup="1 epochs")
  config.steps.total = "30 epochs"
  config.evaluation.batch_size = 64
  config.evaluation.sets = dict(
    val=dict(split="validation", type="classification")
  )
  return config
