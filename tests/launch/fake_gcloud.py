"""A fake `gcloud` whose slices are local folders.

A slice has one VM, or FAKE_WORKERS of them, whose homes are folders. JAX takes
several for tasks of SLURM, as no TPU tells them that they belong together.
Calls are written to calls.txt; commands of ssh run unchanged, except the
installation. The word SUSPENDED in
the file NAME.state in the folder of the cloud preempts a slice; so does a file
NAME.taken, which only its node sees so far.

  FAKE_CLOUD=FOLDER gcloud compute tpus ...
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

CLOUD = pathlib.Path(os.environ["FAKE_CLOUD"])
WORKERS = int(os.environ.get("FAKE_WORKERS", "1"))
REFUSED = "PERMISSION_DENIED: quota"


def _not_found():
  print("ERROR: (gcloud) NOT_FOUND: no such resource", file=sys.stderr)
  sys.exit(1)


def _homes(name):
  return [CLOUD / name, *(CLOUD / f"{name}.w{i}" for i in range(1, WORKERS))]


def _queued(verb, name):
  state = CLOUD / f"{name}.state"
  if verb == "create":
    if (CLOUD / "refuse").exists():
      print(f"ERROR: (gcloud) {REFUSED}", file=sys.stderr)
      sys.exit(1)
    assert not state.exists(), f"{name} is there already"
    for home in _homes(name):
      home.mkdir()
    # The first query finds it waiting.
    state.write_text("WAITING_FOR_RESOURCES")
    return
  if not state.exists():
    _not_found()
  if verb == "delete":
    for home in _homes(name):
      _pull_the_plug(home)
      shutil.rmtree(home)
    state.unlink()
    (CLOUD / f"{name}.taken").unlink(missing_ok=True)
  elif verb == "describe":
    print("WARNING: not for machines", file=sys.stderr)
    print(state.read_text())
    if state.read_text() == "WAITING_FOR_RESOURCES":
      fails = (CLOUD / "fail").exists()
      state.write_text("FAILED" if fails else "ACTIVE")


def _pull_the_plug(home):
  pid = home / "imgbench-runs" / "pid"
  if pid.exists():
    subprocess.run(["kill", "-KILL", "--", f"-{pid.read_text().strip()}"])


def _is_taken(name):
  if (CLOUD / f"{name}.taken").exists():
    return True
  return (CLOUD / f"{name}.state").read_text() == "SUSPENDED"


def _vm(verb, args, options):
  name = args[-1].rstrip(":")
  if not (CLOUD / f"{name}.state").exists():
    _not_found()
  if verb == "describe":
    print("PREEMPTED" if _is_taken(name) else "READY")
    return
  if _is_taken(name):
    print("ssh: connect to host: Connection timed out", file=sys.stderr)
    sys.exit(255)
  if verb == "scp":
    for home in _homes(name):
      shutil.copy(args[0], home)
    return
  started = [
    _ssh(options["command"], *pair) for pair in enumerate(_homes(name))
  ]
  sys.exit(max(process.wait() for process in started))


def _ssh(text, index, home):
  if "tpu_worker.sh setup" in text:
    text = text.rpartition(" && ")[0]
    python = home / "imgbench-code/.venv/bin/python"
    text += f" && mkdir -p {python.parent} && cp {CLOUD / 'python'} {python}"
  # Its home is new, but compiled programs are kept.
  known = {"XDG_CACHE_HOME": str(pathlib.Path("~/.cache").expanduser())}
  if WORKERS > 1:
    known |= {
      "SLURM_JOB_ID": str(os.getpid()),  # JAX derives the port from it.
      "SLURM_STEP_NODELIST": "localhost",
      "SLURM_NTASKS": str(WORKERS),
      "SLURM_PROCID": str(index),
      "SLURM_LOCALID": str(index),
    }
  environment = {**os.environ, **known, "HOME": str(home)}
  return subprocess.Popen(["bash", "-c", text], cwd=home, env=environment)


def main():
  with (CLOUD / "calls.txt").open("a") as file:
    file.write(shlex.join(sys.argv[1:]) + "\n")
  compute, tpus, group, verb, *rest = sys.argv[1:]
  assert (compute, tpus) == ("compute", "tpus")
  args = [arg for arg in rest if not arg.startswith("--")]
  options = dict(
    arg[2:].partition("=")[::2] for arg in rest if arg.startswith("--")
  )
  assert options["project"] == "my-project" and options["zone"]
  if group == "queued-resources":
    _queued(verb, *args)
  else:
    assert group == "tpu-vm"
    _vm(verb, args, options)


main()
