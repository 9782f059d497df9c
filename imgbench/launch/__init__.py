"""Sweeps: many runs from one config, here, on SLURM or on TPU pods.

`hyper` makes lists of points, `points` checks and names them, `units` keeps
what a sweep is and how its runs stand. An executor is a package (`local`,
`slurm`, `tpu`) with a module `executor`, which has

  define_flags(flag_values)           its flags, with those of no other
  check(sweep, flag_values)           InputError, before anything is written
  run(sweep, flag_values) -> code     starts what `units.pending` gives
  status(sweep, flag_values) -> code  brings launch.json up to date, prints
  cancel(sweep, flag_values) -> code  stops what runs

where codes are exit codes: 0 if all units are done, 1 if some are not. But
`run` gives 0 too where others run them and all that is due is submitted (to
SLURM) or printed (commands for TPUs), and `cancel` does once it has stopped
what ran.
"""
