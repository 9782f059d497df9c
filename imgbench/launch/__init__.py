"""Sweeps: many runs from one config, here, on SLURM or on TPU pods.

`hyper` makes lists of points, `points` checks and names them, `units` keeps
what a sweep is and how its runs stand. An executor is a module with

  define_flags(flag_values)           its flags, with those of no other
  check(sweep, flag_values)           InputError, before anything is written
  run(sweep, flag_values) -> code     starts what `units.pending` gives
  status(sweep, flag_values) -> code  brings launch.json up to date, prints
  cancel(sweep, flag_values) -> code  stops what runs

where codes are exit codes: 0 if all units are done (of `run` where a scheduler
runs them: if all that is due is submitted), 1 if some are not.
"""
