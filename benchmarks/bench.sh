#!/usr/bin/env bash
# Make .venv-bench with the peers and this package, then run the benchmark; arguments go to run.py.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv-bench
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt -e .
exec "$venv/bin/python" benchmarks/run.py "$@"
