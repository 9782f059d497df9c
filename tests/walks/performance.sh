#!/bin/sh
# performance.sh WHEEL: the walk of a performance engineer, who measures a
# machine, compares two measurements, gates changes and plans a sweep.
. "$(dirname "$0")/common.sh"
rows=$project/experiments/results/cpu_2_cores/bench_quick

step "see what a benchmark would measure"
imgbench --version
imgbench bench --config=bench:quick --out=rows --dry_run
[ ! -e rows ]

step "measure, and read the page"
imgbench bench --config=bench:rehearsal --config.models=vit_ti16 \
  --config.frameworks=imgbench --config.tasks=train \
  --config.micro.names=dispatch --out=rows
imgbench bench report rows
[ -s rows/report.html ]
[ "$(wc -l < rows/rows.jsonl)" = 2 ]
imgbench bench --config=bench:rehearsal --config.models=vit_ti16 \
  --config.frameworks=imgbench --config.tasks=train \
  --config.micro.names=dispatch --out=rows # All is measured.
expect 2 imgbench bench --config=bench:quick --config.modles=vit_ti16 --out=x

step "compare with a baseline"
imgbench bench compare "$rows" "$rows"
"$python" "$walks/change_rows.py" "$rows"
expect 3 imgbench bench compare "$rows" one_of_twelve
expect 3 imgbench bench compare "$rows" one_in_common
expect 3 imgbench bench compare "$rows" slower_by_20_percent \
  --tolerance=0.15 --strict
expect 3 imgbench bench compare "$rows" times_1.4
imgbench bench compare "$rows" one_of_twelve --allow_missing

step "measure two processes together"
port=$("$python" -c "import socket
with socket.create_server(('127.0.0.1', 0)) as server:
  print(server.getsockname()[1])")
started=
for index in 0 1; do
  imgbench bench --config=bench:rehearsal --config.models=vit_ti16 \
    --config.frameworks=imgbench --config.tasks=infer \
    --config.micro.names=all_reduce --config.devices='(0,)' --out=both \
    --num_processes=2 \
    --coordinator_address=127.0.0.1:$port --process_id=$index &
  started="$started $!"
done
for process in $started; do
  wait "$process" # It returns the exit code of this one.
done
"$python" - <<'PY'
import json

rows = [json.loads(line) for line in open("both/rows.jsonl")]
assert len(rows) == 2, rows
for row in rows:
  assert row["status"] == "ok" and row["num_processes"] == 2, row
  assert row["devices"] == 2, row
PY

step "plan a sweep, on this machine and on a cluster"
imgbench sweep --config=tiny --sweep_dir=sweep --dry_run
imgbench sweep --config=tiny --sweep_dir=sweep --smoke
[ ! -e "sweep/schedule.peak=0.01,seed=0" ]
[ -d sweep/smoke ]
imgbench sweep --config=tiny --sweep_dir=sweep --executor=slurm --dry_run \
  > slurm.txt
grep -q '^#SBATCH' slurm.txt
