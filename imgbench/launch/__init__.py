"""Sweeps: many runs from one config, on this machine, SLURM or TPU pods.

`hyper` builds lists of points, `points` checks and names them, `units` stores
the sweep and the status of its runs. An executor is a package (`local`,
`slurm`, `tpu`) with a module `executor`, which has

  define_flags(flag_values)           defines its flags
  check(sweep, flag_values)           raises InputError before any file changes
  run(sweep, flag_values) -> code     starts the units of `units.find_pending`
  status(sweep, flag_values) -> code  updates launch.json, prints a table
  cancel(sweep, flag_values) -> code  stops what runs

and, if it needs them,

  preview(sweep, flag_values)         prints more for --dry_run
  is_offline(sweep, flag_values)      whether run only prints
  wait(sweep)                         returns when no run is in a queue

The exit code is 0 if all units are done, else 1. It is also 0 for a `run` that
has submitted (to SLURM) or printed (commands for TPUs) all pending units, and
for a `cancel` that has stopped all runs.
"""
