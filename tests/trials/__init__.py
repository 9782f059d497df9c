"""Random trials of faults: kills, bad inputs and hostile files."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Trial:
  """One trial.

  Attributes:
    family: kills, inputs or hostile.
    kind: of the family, a row of the table.
    name: how to repeat it: command line, moment, or changed file.
    problem: what did not hold; "" if all did.
  """

  family: str
  kind: str
  name: str
  problem: str


def judge_end(code: int, stderr: str, codes=(0, 1, 2)) -> str:
  """Returns what is wrong with the end of a program; "" if nothing is.

  A program ends with a known code, without traceback or escape characters, and
  if it failed, with one line that says why.
  """
  errors = [x for x in stderr.splitlines() if x.startswith("imgbench: error")]
  if code not in codes:
    return f"code {code}: {stderr[-300:]}"
  if "Traceback" in stderr:
    return f"a traceback: {stderr[-600:]}"
  if "\x1b" in stderr:
    return "an escape character on the terminal"
  if code in (1, 2) and len(errors) != 1:
    return f"{len(errors)} lines of error: {stderr[-300:]}"
  return ""
