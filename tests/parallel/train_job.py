"""Trains as `training_test` does, in one of several processes.

Args: flags as of imgbench.main for the processes; --out, a folder; --names, of
SETTINGS.
"""

import argparse
import pathlib
import pickle

import jax

from imgbench import cli
from imgbench import config as config_lib
from imgbench.parallel import processes
from imgbench.train import setup
from tests.parallel import training_test

SETTINGS = {
  "jit": dict(),
  "pmap": dict(strategy="pmap"),
  "fsdp": dict(fsdp=2),
  "pmap per device": dict(strategy="pmap", batch_norm="per_device"),
}


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--out", type=pathlib.Path)
  parser.add_argument("--coordinator_address")
  parser.add_argument("--num_processes", type=int)
  parser.add_argument("--process_id", type=int)
  parser.add_argument("--names", nargs="+", choices=SETTINGS)
  flags = parser.parse_args()
  group = processes.join(
    flags.coordinator_address, flags.num_processes, flags.process_id
  )
  cli.keep_compiled("default")
  found = {}
  for name in flags.names:
    config = training_test.config_of(**{"devices": 0, **SETTINGS[name]})
    print(name, flush=True)
    state, losses = training_test.train(config)
    layout = setup.open_devices(config_lib.parse(config))
    whole = layout.strategy.jit(lambda x: x)
    found[name] = jax.device_get(whole(state)), losses
  if group.first:
    (flags.out / "found.pickle").write_bytes(pickle.dumps(found))
  group.close()


if __name__ == "__main__":
  main()
