#!/bin/sh
# Unpacks PyPI's wheel nvidia-cuda-runtime (2.5 MB) for the processor $2, of the release of the nvcc $1, into the folder $3.
set -eu
nvcc=$1
processor=$2
folder=$3
release=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\.[0-9]*\),.*/\1/p')
[ -n "$release" ] || { echo "$nvcc does not tell its release" >&2; exit 1; }
python=${LAT_PYTHON:-python3}
"$python" -m pip --version > /dev/null 2>&1 || { echo "$python has no pip: LAT_PYTHON names one that has" >&2; exit 1; }
rm -rf "$folder"
mkdir -p "$folder"
"$python" -m pip download --quiet --no-deps --only-binary=:all: --platform "manylinux2014_$processor" \
  --platform "manylinux_2_17_$processor" --platform "manylinux_2_27_$processor" --platform "manylinux_2_28_$processor" \
  --dest "$folder" "nvidia-cuda-runtime==$release.*" > "$folder/pip.log" 2>&1 ||
  { grep -m 1 ERROR "$folder/pip.log" >&2 || tail -n 1 "$folder/pip.log" >&2; exit 1; }
cd "$folder"
"$python" -m zipfile --extract nvidia_cuda_runtime-*.whl .
rm nvidia_cuda_runtime-*.whl pip.log
