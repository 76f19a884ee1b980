#!/usr/bin/env bash
# The tests marked gpu and the figures of a CUDA device, in under eight minutes and one report, with the Python
# packages that are there: nothing is installed or fetched.
#
#   benchmarks/gpu.sh [REPORT]      gpu-report.txt in the current folder where no file is named;
#                                   PYTHON is another interpreter than python3
set -euo pipefail

report=${1:-gpu-report.txt}
[[ $report == /* ]] || report=$PWD/$report
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
failed=()

part() { # part NAME SECONDS COMMAND...: run it for so long at most, with its output in the report
    local name=$1 limit=$2 start=$SECONDS status=0
    shift 2
    printf '\n=== %s\n' "$name"
    timeout --kill-after=10 "$limit" "$@" </dev/null 2>&1 || status=$?
    printf -- '--- %s: exit status %d after %d of %d s\n' "$name" "$status" $((SECONDS - start)) "$limit"
    ((status == 0)) || failed+=("$name")
}

everything() {
    date -u
    git log -1 --format='commit %H' 2>/dev/null || true
    part "device" 20 nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.max.sm --format=csv
    part "packages" 40 "$python" -c "$versions"
    part "tests" 250 "$python" -m pytest "${options[@]}" tests/cuda
    part "bench" 160 "$python" -c "$lowprec" bench --device cuda
    if ((${#failed[@]})); then
        printf '\nfailed: %s\n' "${failed[*]}"
        return 1
    fi
    printf '\nall parts passed\n'
}

versions='
import importlib.metadata as packages, sys, torch
print("python", sys.version.split()[0])
for name in ("torch", "numba", "numba-cuda", "llvmlite", "numpy", "triton"):
    try:
        print(name, packages.version(name))
    except packages.PackageNotFoundError:
        print(name, "is not installed")
print("torch finds", torch.cuda.device_count(), "devices")
sys.exit(not torch.cuda.is_available())
'
lowprec='from lowprec.app.cli import main; main()'
# Not the options of pyproject.toml, which need plugins; warnings of other versions are no failures.
options=(-o "addopts=--strict-markers --import-mode=importlib" -W default -m gpu -q -ra)
if "$python" -c "import xdist" 2>/dev/null; then
    cores=$(nproc)
    options+=(-n $((cores < 12 ? cores : 12)) --dist worksteal)
fi

everything | tee "$report"
