#!/usr/bin/env bash
# Twenty times: a mock of realistic noise against itself, and against one that is 5 % slower, each from real processes, after a
# history of eight runs. At most one false alarm (improved or regressed) and one miss (within noise); inconclusive is neither.
set -euo pipefail
cd "$(dirname "$0")/.."
JETBENCH_TRIALS=${1:-20} exec cargo test --locked --test it processes_are_compared -- --nocapture
