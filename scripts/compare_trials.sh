#!/usr/bin/env bash
# Twenty times: a mock of realistic noise against itself (must be within noise), and against one that is 5 % slower (must be
# flagged), each from real processes, after a history of eight runs. At least 19 of 20 of both must come out right.
set -euo pipefail
cd "$(dirname "$0")/.."
JETBENCH_TRIALS=${1:-20} exec cargo test --locked --test compare processes_are_compared -- --nocapture
