#!/usr/bin/env bash
# Kills runs at random moments (seeded), in the parent or in the worker, resumes them, and compares scores, masks and
# tables with those of an undisturbed run. The number of kills is the argument (default: 100).
set -euo pipefail
cd "$(dirname "$0")/.."
JETBENCH_KILLS=${1:-100} exec cargo test --locked --test it killed_at_any_moment -- --nocapture
