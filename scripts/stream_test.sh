#!/usr/bin/env bash
# A UDP stream of a real ffmpeg on this machine, 30 frames per second, tracked with a scripted model: every frame that came is tracked or
# dropped, ages count from the capture, and the worker's memory does not grow. The seconds are the argument (default: 20).
set -euo pipefail
cd "$(dirname "$0")/.."
JETBENCH_STREAM_SECONDS=${1:-20} exec cargo test --locked --test it a_stream_from_a_real_ffmpeg -- --nocapture
