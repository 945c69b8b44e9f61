#!/usr/bin/env bash
# Builds the TensorRT engine of this kit, runs it, and compares it with what PyTorch computed. README.md says more.
#
#   ./build.sh               plugins, lat_run, engine, comparison
#   ./build.sh --check       only look whether all that is needed is there
#
#   --bodies                 no plugins: the ops run as their ONNX function bodies, slower
#   --prebuilt               take the plugin library in prebuilt/ instead of compiling it
#   --arch LIST              GPUs that the plugins are compiled for, as 87 or 80;90  [default: native, this machine's]
#   --python                 build the engine with Python's tensorrt, not with trtexec
#   --print                  print the commands instead of running them
#
# In the environment: TENSORRT_ROOT (TensorRT's own folder: include/, lib/, bin/), or one by one TENSORRT_INCLUDE_DIR,
# TRTEXEC; PYTHON; CUDACXX (nvcc); JOBS (compilers side by side).
#
# Exit codes: 0 the engine computes what PyTorch computes; 1 it does not, or a file of the kit was changed, or a step
# failed; 2 bad usage; 3 something is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly MODEL=model.trt.onnx ENGINE=build/model.trt.engine
readonly LEAST_CMAKE=3.25 LEAST_NVCC=12.8

plugins=compiled python_wanted=no only_check=no only_print=no arch=native
while [ $# -gt 0 ]; do
  case $1 in
    --bodies) plugins=none ;;
    --prebuilt) plugins=prebuilt ;;
    --python) python_wanted=yes ;;
    --check) only_check=yes ;;
    --print) only_print=yes ;;
    --arch)
      [ $# -gt 1 ] || { echo "error: --arch needs a list, as 87 or 80;90" >&2; exit 2; }
      arch=${2//,/;}
      shift
      ;;
    -h | --help)
      sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]##*/}"
      exit 0
      ;;
    *)
      echo "error: unknown option $1; ./build.sh --help lists them" >&2
      exit 2
      ;;
  esac
  shift
done

lacks=()
lack() { lacks+=("$1"); }
tell() { echo "== $*" >&2; }

run() {
  if [ "$only_print" = yes ]; then
    local word
    for word in "$@"; do
      if [[ $word =~ ^[A-Za-z0-9_./:=,+-]+$ ]]; then printf '%s ' "$word"; else printf '%q ' "$word"; fi
    done
    echo
  else
    "$@"
  fi
}

# at_least VERSION LEAST
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

first_of() {
  local place
  for place in "$@"; do
    if [ -x "$place" ] && [ ! -d "$place" ]; then
      echo "$place"
      return
    fi
  done
}

find_headers() {
  local place places=()
  if [ -n "${TENSORRT_INCLUDE_DIR:-}" ]; then
    places=("$TENSORRT_INCLUDE_DIR")
  elif [ -n "${TENSORRT_ROOT:-}" ]; then
    places=("$TENSORRT_ROOT/include")
  else
    places=(/usr/include "/usr/include/$(uname -m)-linux-gnu" /usr/local/include /usr/local/tensorrt/include)
  fi
  for place in "${places[@]}"; do
    if [ -f "$place/NvInferRuntime.h" ]; then
      echo "$place"
      return
    fi
  done
}

find_trtexec() {
  if [ -n "${TRTEXEC:-}" ]; then
    first_of "$TRTEXEC"
  elif [ -n "${TENSORRT_ROOT:-}" ]; then
    first_of "$TENSORRT_ROOT/bin/trtexec"
  else
    first_of "$(command -v trtexec || true)" /usr/src/tensorrt/bin/trtexec /usr/local/tensorrt/bin/trtexec
  fi
}

find_nvcc() {
  if [ -n "${CUDACXX:-}" ]; then
    first_of "$(command -v "$CUDACXX" || true)"
  else
    first_of "$(command -v nvcc || true)" "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc"
  fi
}

has_python_tensorrt() { "$python" -c 'import tensorrt' > /dev/null 2>&1; }

# What each step needs, all of it before anything is built.
examine() {
  if [ -z "$headers" ]; then
    lack "TensorRT's headers: no NvInferRuntime.h in ${TENSORRT_INCLUDE_DIR:-${TENSORRT_ROOT:-the folders of the system}}"
  fi
  if [ "$python_wanted" = yes ] && ! has_python_tensorrt; then
    lack "Python's tensorrt: $python does not import it"
  elif [ "$python_wanted" = no ] && [ -z "$trtexec" ] && ! has_python_tensorrt; then
    lack "what builds the engine: neither trtexec nor Python's tensorrt"
  fi
  if ! command -v cmake > /dev/null; then
    lack "CMake $LEAST_CMAKE or later: pip install cmake, or your system's package"
  elif ! at_least "$(cmake --version | sed -n 's/^cmake version //p')" "$LEAST_CMAKE"; then
    lack "CMake $LEAST_CMAKE or later, found $(cmake --version | sed -n 's/^cmake version //p'): pip install cmake"
  fi
  if ! command -v c++ > /dev/null; then lack "a C++17 compiler: apt install g++"; fi
  if ! command -v ninja > /dev/null && ! command -v make > /dev/null; then lack "ninja or make: apt install make"; fi
  if [ -z "$nvcc" ]; then
    lack "the CUDA toolkit: no nvcc on the PATH, in CUDACXX, in CUDA_HOME or in /usr/local/cuda"
  elif [ "$plugins" = compiled ]; then
    local version
    version=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
    at_least "$version" "$LEAST_NVCC" ||
      lack "nvcc $LEAST_NVCC or later, found $version: or take --prebuilt or --bodies"
  fi
  if [ "$plugins" = prebuilt ] && [ ! -f "$prebuilt" ]; then
    local others
    others=$(ls prebuilt 2> /dev/null || true)
    lack "a prebuilt plugin library for $(uname -m): this kit has ${others:-none}"
  fi
}

report_lacks() {
  {
    echo "error: this machine lacks what it takes to build the engine"
    printf '  %s\n' "${lacks[@]}"
    cat << 'WAYS'

two ways to get TensorRT, 10.8 or later, or 11:
  its SDK: unpack NVIDIA's archive, or install its packages (on a Jetson, JetPack's), then
      TENSORRT_ROOT=/path/to/TensorRT ./build.sh
  its container, which has compilers and the CUDA toolkit too:
      docker run --rm --gpus all -v "$PWD:/kit" nvcr.io/nvidia/tensorrt:YY.MM-py3 /kit/build.sh
WAYS
  } >&2
}

python=${PYTHON:-python3}
headers=$(find_headers)
trtexec=$(find_trtexec)
nvcc=$(find_nvcc)
prebuilt=prebuilt/$(uname -m)/liblat_trt.so

if ! sha256sum --check --quiet SHA256SUMS >&2; then
  echo "error: files of this kit are not what they were when it was written: copy it again" >&2
  exit 1
fi
examine
if [ ${#lacks[@]} -gt 0 ] && [ "$only_print" = no ]; then
  report_lacks
  exit 3
fi
if [ "$only_print" = yes ]; then
  # Where something is missing, what its place usually is.
  headers=${headers:-${TENSORRT_ROOT:-/usr}/include}
  nvcc=${nvcc:-/usr/local/cuda/bin/nvcc}
  trtexec=${trtexec:-trtexec}
fi
if [ "$only_check" = yes ]; then
  echo "all that is needed is here: headers in $headers, ${trtexec:-tensorrt of $python}, $nvcc"
  exit 0
fi

case $plugins in
  compiled) library=build/liblat_trt.so build_plugins=ON ;;
  prebuilt) library=$prebuilt build_plugins=OFF ;;
  none) library='' build_plugins=OFF ;;
esac

# Libraries of an unpacked SDK, for trtexec, Python and lat_run.
if [ -n "${TENSORRT_ROOT:-}" ]; then
  export LD_LIBRARY_PATH="$TENSORRT_ROOT/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi

generator=()
if command -v ninja > /dev/null; then generator=(-G Ninja); fi
tell "compiling lat_run${library:+ and the plugins}"
# A newer compiler's new warning is no reason to have no engine.
run cmake -S . -B build "${generator[@]}" --compile-no-warning-as-error -DCMAKE_BUILD_TYPE=Release \
  "-DTENSORRT_INCLUDE_DIR=$headers" "-DCUDAToolkit_ROOT=$(dirname "$(dirname "$nvcc")")" \
  "-DLAT_KIT_PLUGINS=$build_plugins" "-DLAT_CUDA_ARCHS=$arch" "-DCMAKE_CUDA_COMPILER=$nvcc"
run cmake --build build --parallel "${JOBS:-2}"

tell "building the engine"
if [ -n "$trtexec" ] && [ "$python_wanted" = no ]; then
  mapfile -t profile < trtexec.args
  # Types are the graph's own: strongly typed, which TensorRT 11 always is, and float32 without TF32.
  run "$trtexec" "--onnx=$MODEL" "--saveEngine=$ENGINE" ${library:+"--dynamicPlugins=$library"} \
    --stronglyTyped --noTF32 --skipInference "${profile[@]}"
else
  run "$python" build_engine.py --out "$ENGINE" ${library:+--plugins "$library"}
fi

tell "comparing it with PyTorch"
run build/lat_run . --engine "$ENGINE" ${library:+--plugins "$library"}
