#!/bin/bash
# 3 runs on 2 slices.

# The code, for all slices.
tar -czf imgbench-code.tar.gz --exclude=__pycache__ '--exclude=*.so' -C /home/me/imgbench imgbench configs requirements setup.py README.md || exit 1

# Slice imgbench-4e06e5-0.
(
  gcloud compute tpus queued-resources create imgbench-4e06e5-0 --project=my-project --zone=us-west4-a --node-id=imgbench-4e06e5-0 --accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot --service-account=trainer@my-project.iam.gserviceaccount.com --labels=team=vision || exit 1
  until state=$(gcloud compute tpus queued-resources describe imgbench-4e06e5-0 --project=my-project --zone=us-west4-a '--format=value(state.state)') &&
      [ "$state" = ACTIVE ]; do
    case "$state" in FAILED | SUSPENDED) break ;; esac
    sleep 30
  done
  gcloud compute tpus tpu-vm scp imgbench-code.tar.gz imgbench-4e06e5-0: --worker=all --project=my-project --zone=us-west4-a &&
  gcloud compute tpus tpu-vm ssh imgbench-4e06e5-0 --worker=all --project=my-project --zone=us-west4-a '--ssh-flag=-o ServerAliveInterval=30' '--command=if test -e imgbench-code/imgbench/launch/tpu_worker.sh; then bash imgbench-code/imgbench/launch/tpu_worker.sh stop; fi && rm -rf imgbench-code/imgbench imgbench-code/configs && mkdir -p imgbench-code && tar -xzf imgbench-code.tar.gz -C imgbench-code && bash imgbench-code/imgbench/launch/tpu_worker.sh setup my-bucket/tfds' &&
  {
    # unit0
    gcloud compute tpus tpu-vm ssh imgbench-4e06e5-0 --worker=all --project=my-project --zone=us-west4-a '--ssh-flag=-o ServerAliveInterval=30' '--command=bash imgbench-code/imgbench/launch/tpu_worker.sh run 77366f4f19c4.20260801T120000 .venv/bin/python -m imgbench.main --config=configs/scenes.py:long --workdir=gs://my-bucket/sweeps/peaks/unit0 --config.data.data_dir=/mnt/data --config.schedule.peak=0.1 '"'"'--config.model.widths=(8, 16)'"'"''
    # unit2
    gcloud compute tpus tpu-vm ssh imgbench-4e06e5-0 --worker=all --project=my-project --zone=us-west4-a '--ssh-flag=-o ServerAliveInterval=30' '--command=bash imgbench-code/imgbench/launch/tpu_worker.sh run 0efab319cc11.20260801T120000 .venv/bin/python -m imgbench.main --config=configs/scenes.py:long --workdir=gs://my-bucket/sweeps/peaks/unit2 --config.data.data_dir=/mnt/data '"'"'--config.schedule.warmup=2 steps'"'"''
  }
  gcloud compute tpus queued-resources delete imgbench-4e06e5-0 --project=my-project --zone=us-west4-a --force --quiet
) &

# Slice imgbench-4e06e5-1.
(
  gcloud compute tpus queued-resources create imgbench-4e06e5-1 --project=my-project --zone=us-west4-a --node-id=imgbench-4e06e5-1 --accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot --service-account=trainer@my-project.iam.gserviceaccount.com --labels=team=vision || exit 1
  until state=$(gcloud compute tpus queued-resources describe imgbench-4e06e5-1 --project=my-project --zone=us-west4-a '--format=value(state.state)') &&
      [ "$state" = ACTIVE ]; do
    case "$state" in FAILED | SUSPENDED) break ;; esac
    sleep 30
  done
  gcloud compute tpus tpu-vm scp imgbench-code.tar.gz imgbench-4e06e5-1: --worker=all --project=my-project --zone=us-west4-a &&
  gcloud compute tpus tpu-vm ssh imgbench-4e06e5-1 --worker=all --project=my-project --zone=us-west4-a '--ssh-flag=-o ServerAliveInterval=30' '--command=if test -e imgbench-code/imgbench/launch/tpu_worker.sh; then bash imgbench-code/imgbench/launch/tpu_worker.sh stop; fi && rm -rf imgbench-code/imgbench imgbench-code/configs && mkdir -p imgbench-code && tar -xzf imgbench-code.tar.gz -C imgbench-code && bash imgbench-code/imgbench/launch/tpu_worker.sh setup my-bucket/tfds' &&
  {
    # unit1
    gcloud compute tpus tpu-vm ssh imgbench-4e06e5-1 --worker=all --project=my-project --zone=us-west4-a '--ssh-flag=-o ServerAliveInterval=30' '--command=bash imgbench-code/imgbench/launch/tpu_worker.sh run a7f4909446e1.20260801T120000 .venv/bin/python -m imgbench.main --config=configs/scenes.py:long --workdir=gs://my-bucket/sweeps/peaks/unit1 --config.data.data_dir=/mnt/data --config.schedule.peak=0.2 '"'"'--config.model.widths=(8, 16)'"'"''
  }
  gcloud compute tpus queued-resources delete imgbench-4e06e5-1 --project=my-project --zone=us-west4-a --force --quiet
) &
wait
