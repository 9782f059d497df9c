"""Fine-tunes weights on CIFAR-10 or a folder of images, or probes them.

Command: imgbench train --config=configs/finetune.py:folder \
  --config.data.data_dir=DIR --config.init.source=model.safetensors \
  --workdir=runs/finetuned
Options (after a colon): `folder` for the images of configs/folder.py at 224
pixels instead of CIFAR-10 at its own 32, `probe` to train the head alone.
init.source is a run or a file of weights of the model, see docs/weights.md.
Hardware and time: one accelerator; 5,000 images of 224 pixels take minutes per
epoch there, and on CPUs some hours.
Result: depends on the weights; a start, not a tuned recipe.
"""

import ml_collections

from imgbench.configs import cifar10_resnet18
from imgbench.configs import common
from imgbench.configs import folder


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  options = common.parse_options(arg, folder=False, probe=False)
  if options.folder:
    config = folder.get_config()
    config.input.size = 224
  else:
    config = cifar10_resnet18.get_config()
  config.global_batch_size = 64
  config.model = dict(name="resnet50", dtype="auto")
  config.augment.update(mean=common.IMAGENET_MEAN, std=common.IMAGENET_STD)
  config.optim = dict(name="sgd", momentum=0.9, weight_decay=1e-4)
  config.schedule = dict(name="warmup_cosine", peak=0.01, warmup="5 percent")
  config.init = dict(source="")
  if options.probe:
    config.init.freeze = ("(?!head/).*",)
    config.optim.weight_decay = 0.0
    config.schedule.peak = 0.1
  config.steps.total = "10 epochs"
  config.evaluation.every = config.checkpoint.every = "1 epochs"
  config.parallel.devices = 1
  return config
