"""Command lines that the programs refuse, of each program some."""

TINY = "--config={tree}/configs/tiny.py"
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

# Module and flags; all are refused.
COMMANDS = (
  ("imgbench.main",),
  ("imgbench.main", TINY),
  (*_MAIN, "--config=absent.py"),
  (*_MAIN, TINY + ":fast"),
  (*_MAIN, TINY, "--speed=9"),
  (*_MAIN, TINY, "extra"),
  (*_MAIN, TINY, "--config.modle.name=cnn"),
  (*_MAIN, TINY, "--config.seed=many"),
  (*_MAIN, TINY, "--config.model.name=cnm"),
  (*_MAIN, TINY, "--config.model.dtype=float16"),
  (*_MAIN, TINY, "--config.global_batch_size=-4"),
  (*_MAIN, TINY, "--config.data.train_split=trian"),
  (*_MAIN, TINY, "--config.data.name=cifar10", "--config.data.options={}"),
  (*_MAIN, TINY, "--config.loss.label_smoothing=1.5"),
  (*_MAIN, TINY, "--config.loss.name=hinge"),
  (*_MAIN, TINY, "--config.checkpoint.best=val/nonsense"),
  (*_MAIN, TINY, "--config.checkpoint.init_from=absent"),
  (*_MAIN, TINY, "--config.parallel.strategy=shard"),
  (*_MAIN, TINY, "--config.parallel.devices=64"),
  (*_MAIN, TINY, "--config.steps.total=16 weeks"),
  (*_MAIN, TINY, "--profile_steps=5:3"),
  ("imgbench.report",),
  ("imgbench.report", "--workdir=absent"),
  (*_POINTS, "--recall=0.9"),
  _POINTS,
  (*_BENCH, _QUICK, "--config.models=resnet19"),
  (*_BENCH, _QUICK, "--config.batch_sizes=0"),
  ("imgbench.bench.report", "absent"),
  ("imgbench.bench.compare", "absent", "absent"),
  (*_LAUNCH, TINY, "--sweep=absent"),
  (*_LAUNCH, TINY, "--executor=slrum"),
  (*_LAUNCH, TINY, "--jobs=0"),
  ("imgbench.launch.table", "--sweep_dir=absent"),
  (*_PREPARE, "--dataset=cifar9"),
  ("imgbench.data.fake_imagenet", "--out=fake", "--image_size=big"),
  ("experiments.cifar10_1", "--repo=absent", "--labels=absent.npy"),
  ("experiments.imagenet_v2", "--repo=absent"),
  ("experiments.multilabel", _V2, "--multilabels=absent.json"),
  ("experiments.real_labels", _V2),
  ("experiments.error_analysis", "--repo=absent"),
)
