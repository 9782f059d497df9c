"""Command lines that the programs refuse, and what each prints."""

import re

from tests.train import processes

ROOT = processes.ROOT

_TINY = "--config={tree}/configs/tiny.py"
_MAIN = ("imgbench.main", "--workdir=run")
_LAUNCH = ("imgbench.launch", "--sweep_dir=sweep")
_PREPARE = ("imgbench.data.prepare", "--data_dir=data")
_POINTS = (
  *("imgbench.operating_points", "--workdir=absent"),
  *("--dataset=scenes:validation", "--class=0"),
)
_BENCH = ("imgbench.bench", "--out=bench")
_QUICK = "--config={tree}/configs/bench.py:quick"
_V2 = "--repo={shared}/ImageNetV2"

# Module and flags.
COMMANDS = (
  ("imgbench.main",),
  ("imgbench.main", _TINY),
  (*_MAIN, "--config=absent.py"),
  (*_MAIN, _TINY + ":fast"),
  (*_MAIN, _TINY, "--speed=9"),
  (*_MAIN, _TINY, "extra"),
  (*_MAIN, _TINY, "--config.modle.name=cnn"),
  (*_MAIN, _TINY, "--config.seed=many"),
  (*_MAIN, _TINY, "--config.model.name=cnm"),
  (*_MAIN, _TINY, "--config.model.dtype=float16"),
  (*_MAIN, _TINY, "--config.global_batch_size=-4"),
  (*_MAIN, _TINY, "--config.data.train_split=trian"),
  (*_MAIN, _TINY, "--config.data.name=cifar10", "--config.data.options={}"),
  (*_MAIN, _TINY, "--config.loss.label_smoothing=1.5"),
  (*_MAIN, _TINY, "--config.loss.name=hinge"),
  (*_MAIN, _TINY, "--config.plugins=absent.module"),
  (*_MAIN, _TINY, "--config.optim.name=optax.lbfgs"),
  (*_MAIN, _TINY, "--config.checkpoint.best=val/nonsense"),
  (*_MAIN, _TINY, "--config.init.source=absent"),
  (*_MAIN, _TINY, "--config.parallel.strategy=shard"),
  (*_MAIN, _TINY, "--config.parallel.devices=64"),
  (*_MAIN, _TINY, "--config.steps.total=16 weeks"),
  (*_MAIN, _TINY, "--profile_steps=5:3"),
  (*_MAIN, _TINY, "--config.optim.weight_decay=inf"),
  (*_MAIN, _TINY, "--config.steps.total=1e18 steps"),
  (*_MAIN, _TINY, "--config.model.widths=abc"),
  (*_MAIN, _TINY, "--flagfile=absent"),
  (*_MAIN, "--config={tree}/configs/common.py"),
  ("imgbench.main", _TINY, "--workdir=/dev/null/run"),
  ("imgbench.predict",),
  ("imgbench.predict", "absent"),
  ("imgbench.predict", "absent", "absent.jpg"),
  ("imgbench.export",),
  ("imgbench.export", "--out=model"),
  ("imgbench.score",),
  ("imgbench.score", "absent.npy", "--dataset=val", "--out=out"),
  ("imgbench.score", "{tree}/setup.py", "--dataset=vall", "--out=out"),
  ("imgbench.score", "{tree}/setup.py", "--dataset=val", "--out=out"),
  (
    *("imgbench.score", "{tree}/setup.py", "--dataset=val", "--out=out"),
    _V2,
  ),
  ("imgbench.report",),
  ("imgbench.report", "--workdir=absent"),
  ("imgbench.report", "absent@8"),
  ("imgbench.compare",),
  ("imgbench.compare", "absent", "other"),
  ("imgbench.compare", "absent@8", "other"),
  ("imgbench.check",),
  ("imgbench.check", "absent@8"),
  (*_MAIN, _TINY, "--require=top1_acuracy>=0.5"),
  (*_MAIN, _TINY, "--require=recall[otter>=0.5"),
  (*_MAIN, _TINY, "--require=nll<4", "--smoke_steps=2"),
  ("imgbench.review.pending",),
  ("imgbench.review.pending", "absent", "--out=out"),
  ("imgbench.review.merge", "--annotations=absent", "--out=new.json"),
  ("imgbench.review.init", "--db=new.db", "--classes=absent"),
  ("imgbench.review.imports", "--db=absent.db"),
  ("imgbench.review.exports", "--db=absent.db", "--out=new.json"),
  ("imgbench.evaluate", "--workdir=run"),
  ("imgbench.evaluate", "absent@8", "--workdir=run"),
  (*_MAIN, _TINY, "--config.evaluation.sets.new.every=never"),
  (*_MAIN, _TINY, "--config.zzz=1"),
  (*_POINTS, "--recall=0.9"),
  _POINTS,
  (*_BENCH, _QUICK, "--config.models=resnet19"),
  (*_BENCH, _QUICK, "--config.batch_sizes=0"),
  ("imgbench.bench.report", "absent"),
  ("imgbench.bench.compare", "absent", "absent"),
  (*_LAUNCH, _TINY, "--sweep=absent"),
  (*_LAUNCH, _TINY, "--executor=slrum"),
  (*_LAUNCH, _TINY, "--jobs=0"),
  (*_LAUNCH, _TINY, "--dry_run", "--config.model.name=cnm"),
  ("imgbench.launch.table", "--sweep_dir=absent"),
  (*_PREPARE, "--dataset=cifar9"),
  ("imgbench.data.fake_imagenet", "--out=fake", "--image_size=big"),
  ("experiments.cifar10_1", "--repo=absent", "--labels=absent.npy"),
  ("experiments.imagenet_v2", "--repo=absent"),
  ("experiments.multilabel", _V2, "--multilabels=absent.json"),
  ("experiments.real_labels", _V2),
  ("experiments.imagenet_x", _V2, "--annotations=absent"),
  ("experiments.error_analysis", "--repo=absent"),
)


def error_line(text: str, names: dict[str, str]) -> str:
  """Returns the errors that a program printed, without paths and versions.

  Args:
    text: its standard error, with one error.
    names: path -> what replaces it.
  """
  line = " ".join(re.findall(r"^(?:imgbench: error|FATAL).*$", text, re.M))
  for path, name in names.items():
    line = line.replace(path, name)
  line = re.sub(r"0x[0-9a-f]+", "{address}", line)
  line = re.sub(r", line \d+", ", line {number}", line)
  return re.sub(r"TFDS [\d.]+", "TFDS {version}", line)
