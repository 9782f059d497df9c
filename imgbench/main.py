"""Trains and evaluates a classifier: one config, one workdir.

imgbench train --config=configs/scenes.py --workdir=runs/demo

After a stop (Ctrl-C, SIGTERM, SIGHUP, kill -9, power) the same command resumes
from the last checkpoint; after the end it prints the results again. Config
values are overridden with --config.section.key=value. Exit codes: 0 done, 1
failed, 2 bad input, 3 a requirement does not hold, 75 stopped after saving or
before the first step.
"""

from imgbench import commands  # Others later: signals are not caught yet.

REQUIRED = ("config", "workdir")


def define_flags(flag_values) -> None:
  """Defines the flags of `main`, --config among them."""
  from absl import flags

  from imgbench import check
  from imgbench import cli

  check.define_require_flag(flag_values)
  cli.define_config_flag(flag_values)
  cli.define_process_flags(flag_values)
  flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run: checkpoints, metrics, results, report.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "compilation_cache",
    "default",
    "Folder of compiled programs, so that the next start need not compile;"
    " default: in the user's cache folder; empty: none.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "profile_steps",
    "",
    "FIRST:LAST: write a JAX profiler trace of the steps after step FIRST up to"
    " step LAST, rounded outward to whole dispatches, to WORKDIR/profile; see"
    " docs/profiling.md.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "smoke_steps",
    0,
    "Only time this many training steps: WORKDIR, which must be new, gets their"
    " times and no run; 0: train.",
    lower_bound=0,
    flag_values=flag_values,
  )


def main(argv: list[str]) -> int:
  """Runs the config that the flags name; returns the exit code."""
  del argv
  from absl import flags

  from imgbench import check
  from imgbench import cli
  from imgbench import errors
  from imgbench import host_memory
  from imgbench import interrupts
  from imgbench import startup
  from imgbench.report import terminal
  from imgbench.train import loop
  from imgbench.train import mfu
  from imgbench.train import profiling
  from imgbench.train import smoke

  config = flags.FLAGS.config
  required = check.parse(flags.FLAGS.require)
  fits = not (required and flags.FLAGS.smoke_steps)
  errors.check(fits, "--require", "a run without --smoke_steps", "both")
  host_memory.keep()
  cli.show_log()
  with interrupts.StopRequest():
    profile = profiling.parse(flags.FLAGS.profile_steps)
    group = cli.join_processes()
  with (
    cli.one_line_errors(group),
    interrupts.StopRequest(group.agreed) as stop,
  ):
    startup.log_start(config, flags.FLAGS["config"].config_filename)
    cli.keep_compiled(flags.FLAGS.compilation_cache)
    if flags.FLAGS.smoke_steps:
      workdir, steps = flags.FLAGS.workdir, flags.FLAGS.smoke_steps
      times = smoke.measure(config, workdir, steps, group)
      group.close()
      if group.first:
        print(f"{1e3 * times['step_s']:.3g} ms per step")
      return errors.EXIT_DONE
    results = loop.train_and_evaluate(
      config,
      flags.FLAGS.workdir,
      group,
      profile=profile,
      count_flops=mfu.count_flops,
      stop=stop,
    )
    stop.finish()
    check_run = lambda: check.check_run(flags.FLAGS.workdir, required)
    found = group.from_first(check_run)
    group.close()
  if group.first:
    print(terminal.format_table(results, config.evaluation.alpha))
    from imgbench.papers import own_sets

    commands = own_sets.format_commands(results, flags.FLAGS.workdir)
    if commands:
      print("\nTo add the run to the tables of papers:", *commands, sep="\n")
  return check.end(found, shown=group.first)


if __name__ == "__main__":
  commands.start("train")
