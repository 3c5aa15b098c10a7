#!/usr/bin/env bash
# Runs the tests in a fresh environment with the newest or the oldest versions that setup.cfg allows:
# tests/with_constraints.sh constraints.txt|constraints-oldest.txt [options of pytest]
# PYTHON names the interpreter; the oldest versions want Python 3.10.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
constraints=${1:?constraints.txt or constraints-oldest.txt}
shift
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
"${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/pip" install --quiet --constraint "$constraints" --editable ".[dev]"
"$environment/bin/python" -m pytest "$@"
