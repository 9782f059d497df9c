"""A fake `gcloud` whose slices are local folders.

A slice has one VM, whose home is a folder. Calls are written to calls.txt;
commands of ssh run unchanged, except the installation. The word SUSPENDED in
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
REFUSED = "PERMISSION_DENIED: quota"


def _not_found():
  print("ERROR: (gcloud) NOT_FOUND: no such resource", file=sys.stderr)
  sys.exit(1)


def _queued(verb, name):
  state, home = CLOUD / f"{name}.state", CLOUD / name
  if verb == "create":
    if (CLOUD / "refuse").exists():
      print(f"ERROR: (gcloud) {REFUSED}", file=sys.stderr)
      sys.exit(1)
    assert not state.exists(), f"{name} is there already"
    home.mkdir()
    # The first query finds it waiting.
    state.write_text("WAITING_FOR_RESOURCES")
    return
  if not state.exists():
    _not_found()
  if verb == "delete":
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
    shutil.copy(args[0], CLOUD / name)
    return
  text = options["command"]
  if "tpu_worker.sh setup" in text:
    text = text.rpartition(" && ")[0]
    python = CLOUD / name / "imgbench-code/.venv/bin/python"
    text += f" && mkdir -p {python.parent} && cp {CLOUD / 'python'} {python}"
  # Its home is new, but compiled programs are kept.
  known = {"XDG_CACHE_HOME": str(pathlib.Path("~/.cache").expanduser())}
  environment = {**known, **os.environ, "HOME": str(CLOUD / name)}
  done = subprocess.run(["bash", "-c", text], cwd=CLOUD / name, env=environment)
  sys.exit(done.returncode)


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
