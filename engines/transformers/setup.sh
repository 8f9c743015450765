#!/usr/bin/env bash
# Makes engines/transformers/venv with PyTorch and transformers, for
#   llcuda bench --config … --output … --python engines/transformers/venv/bin/python
# requirements.lock holds the versions that the kept reports were made with.
set -euo pipefail
cd "$(dirname "$0")"
python3 -m venv venv
venv/bin/pip install -r "${1:-requirements.lock}"
