"""What TensorRT and TensorRT-RTX say, turned into errors of ours: what, which node, and what to do.

The table has those that users meet most, by public issue trackers, and those that TensorRT-RTX 1.7.1 gave here. Its
order is that of preference: one cause often makes several messages, and the first row that fits any of them is told.
The library's own words are always kept as `got`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lat_export.errors import InputError, LatExportError, MissingError

RTX_HERE = "TensorRT-RTX 1.7.1, made here without a GPU"
MOST_LINES = 5


@dataclass(frozen=True)
class Known:
    """
    Attributes:
        pattern: found in a message; a group "node" names the node, "detail" goes into the sentence.
        what: one sentence; {detail} is filled in.
        source: where the message is from.
        example: one such message, cut short: tests hold the pattern against it.
        missing: the machine lacks something; the model is not at fault.
    """

    pattern: str
    what: str
    hint: str
    source: str
    example: str
    missing: bool = False


KNOWN = (
    Known(
        r"Plugin not found, are the plugin name|[Cc]ould not find plugin|plugin creator version \S+ was not found",
        "the parser knows no such op: no importer of its own, no function body, and no plugin of that name is loaded",
        "lat-export plugins build --tensorrt-include DIR for lat ops; --dry-run names what takes each node",
        f"{RTX_HERE}; github.com/NVIDIA/TensorRT/issues/1775, /3164, github.com/onnx/onnx-tensorrt/issues/800",
        'creator && "Plugin not found, are the plugin name, version, and namespace correct?" '
        "(node 0 'victim', NoSuchOp)",
    ),
    Known(
        r"within workspace limit|insufficient memory on requested size|insuficient memory|Try decreasing the workspace",
        "no kernel fits into the workspace that the builder may use",
        "a larger --workspace, or none: then all of the GPU's memory may be used",
        f"{RTX_HERE}; github.com/marcoslucianops/DeepStream-Yolo/issues/366, github.com/open-mmlab/mmdeploy/issues/48",
        "Tactic Selection: no tactics to implement the operation within workspace limit. Consider increase the allowed "
        "workspace size if applicable.",
    ),
    Known(
        r"OutOfMemory|[Oo]ut of [Mm]emory|could not be allocated|user allocator error",
        "the GPU has not enough free memory",
        "free it (nvidia-smi shows who has it), a smaller --seq or --batch maximum, or a smaller --workspace; "
        "--dry-run estimates what the model needs",
        "github.com/NVIDIA/TensorRT/issues/4254, /840, github.com/VoltaML/voltaML-fast-stable-diffusion/issues/15",
        "[virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further information)",
        missing=True,
    ),
    Known(
        r"Cannot compile operation '(?P<node>[^']*)' for Turing \(SM75\): (?P<detail>.*?) is not supported",
        "{detail} is not supported on GPUs of compute capability 7.5",
        "leave 7.5 out of --compute-capability, or --precision fp16",
        RTX_HERE,
        "Myelin ([pass.cpp:337: check_turing_op_compatibility] Cannot compile operation 'layer.0/MatMul' for Turing "
        "(SM75): FP32 GEMM is not supported. In compileGraph",
    ),
    Known(
        r"[Cc]ould not find any implementation for node (?P<node>.*?)\.?\)?$",
        "no kernel of the library fits this node, or fused group of nodes",
        "more --workspace, a --seq that begins higher, or another --opt-level",
        "github.com/NVIDIA/TensorRT/issues/2918, /3051, /3676",
        "[optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any implementation for node "
        "{ForeignNode[177...Reshape_81 + (Unnamed Layer* 146) [Shuffle]]}.)",
    ),
    Known(
        r"but no optimization profile has been defined|is missing dimensions in profile|dynamic input is missing",
        "a dynamic input has no sizes in the optimisation profile",
        "--batch, --seq and --choices, or --profile: every dynamic dimension needs a range",
        f"{RTX_HERE}; github.com/NVIDIA/TensorRT/issues/939",
        "Error Code 4: API Usage Error (Network has dynamic or shape inputs, but no optimization profile has been "
        "defined. In validate at /_src/optimizer/api/network.cpp:4023)",
    ),
    Known(
        r"Dimension mismatch for tensor (?P<node>\S+) and profile|does not match network definition",
        "the profile gives a fixed dimension of an input another size than the model has",
        "leave that dimension out of the profile",
        f"{RTX_HERE}; github.com/NVIDIA/TensorRT/issues/939",
        "Dimension mismatch for tensor x and profile 0. At dimension axis 1, profile has min=3, opt=3, max=3 but "
        "tensor has 4. In validate",
    ),
    Known(
        r"(?:ILayer|Layer) (?P<node>[^:\s]+): [^:]*K exceeds the maximum value|ITopKLayer (?P<topk>\S+): .*K exceeds",
        "TopK looks for more than 3840 numbers",
        "--max-global 3840, or less",
        RTX_HERE,
        "API Usage Error (ITopKLayer top: top: K exceeds the maximum value allowed (3840). In processCheck",
    ),
    Known(
        r"must have same input types|same data type|have the same type",
        "two inputs of a node are of different types, which a strongly typed network does not take",
        "Cast nodes in the graph: lat-export model --precision puts them; --dry-run names every such node",
        RTX_HERE,
        "ITensor::getDimensions: Error Code 4: API Usage Error (adder: ElementWiseOperation SUM must have same input "
        "types. But they are of types Float and Half. In validateTypes",
    ),
    Known(
        r"I\w+Layer (?P<node>\S+): broadcast dimensions must be conformable|violate shape constraints|"
        r"broadcast with incompatible dimensions",
        "the shapes of this node do not fit together at the sizes of the profile",
        "sizes that the model can take: --seq, --batch; --dry-run tells at which of them",
        f"{RTX_HERE}; github.com/NVIDIA/TensorRT/issues/1947",
        "Error Code 4: API Usage Error (IElementWiseLayer adder: broadcast dimensions must be conformable In op",
    ),
    Known(
        r"exceed min ~ max range|Static dimension mismatch while setting input shape",
        "an input has a size outside of the engine's profile",
        "export again with a --seq, --batch or --profile that holds it; lat-export inspect shows the engine's",
        "github.com/NVIDIA/TensorRT/issues/2739, github.com/QwenAudio/CosyVoice/issues/901",
        "Supplied binding dimension [10,3,128,64] for bindings[0] exceed min ~ max range at index 0, maximum dimension "
        "in profile is 1",
    ),
    Known(
        r"Version tag does not match|incompatible serialization version|magicTag|[Mm]agic [Tt]ag|VERSION_MISMATCH",
        "the engine was built by another version of the library, or the file is no engine of it",
        "build it again where it is to run, or with --version-compatible (TensorRT)",
        f"{RTX_HERE}; github.com/NVIDIA/TensorRT/issues/2195, /2072, /1596",
        "Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed.Trying to load an engine created with "
        "incompatible serialization version",
    ),
    Known(
        r"generated on an incompatible device|compute capability .* is not supported|UNSUPPORTED_CC",
        "the engine was built for another GPU",
        "build it again on this one, or with --hardware-compatible (TensorRT) or --compute-capability (TensorRT-RTX)",
        "github.com/NVIDIA/TensorRT/issues/564",
        "INVALID_CONFIG: The engine plan file is generated on an incompatible device, expecting compute 6.1 got "
        "compute 7.5, please rebuild.",
    ),
    Known(
        r"Unable to load library: (?P<detail>[^:]*?lean[^:]*):",
        "the lean runtime that a version-compatible engine needs is not there ({detail})",
        "install TensorRT's lean runtime, or leave --version-compatible out",
        RTX_HERE,
        "Error Code 6: API Usage Error (Unable to load library: libnvinfer_lean.so.1: libnvinfer_lean.so.1: cannot "
        "open shared object file",
        missing=True,
    ),
    Known(
        r"Unable to load library: (?P<detail>[^:]*):",
        "a plugin library does not load ({detail})",
        "lat-export plugins list shows what it was built for; build it with the headers of the TensorRT that loads it",
        RTX_HERE,
        "IPluginRegistry::loadLibrary: Error Code 6: API Usage Error (Unable to load library: /nowhere.so: "
        "/nowhere.so: cannot open shared object file: No such file or directory",
        missing=True,
    ),
    Known(
        r"graph_jit\.cpp.*CHECK\(status == CUDA_SUCCESS\) failed",
        "this build needs a GPU: a refittable or weight-stripped engine is compiled on one",
        "build on a machine with a GPU, or without --refittable and --strip-weights",
        RTX_HERE,
        "MyelinCheckException: graph_jit.cpp:278: CHECK(status == CUDA_SUCCESS) failed.  In compileGraph",
        missing=True,
    ),
    Known(
        r"[Cc][Uu][Dd][Aa] initialization failure with error|cudaError 35|driver version is insufficient|"
        r"no CUDA-capable device",
        "CUDA does not start: no NVIDIA driver, or one older than the library needs",
        "nvidia-smi shows the driver; in a container --gpus all; lat-export doctor looks for both",
        f"{RTX_HERE}; github.com/NVIDIA/TensorRT/issues/4621, /3115, /2879",
        "[W] [TRT] CUDA initialization failure with error: 35. Please check your CUDA installation",
        missing=True,
    ),
)
NODE_OF_PARSER = re.compile(r"\(node \d+ '([^']+)', (\w+)\)$")


def explained(
    title: str, messages: Sequence[str], stage: str, doing: str = "does not take this graph"
) -> LatExportError:
    """The error for what a library said; one that no row fits keeps the library's words alone.

    Args:
        title: of the library.
        messages: as it logged them, or `tensorrt_build` gave them.
        doing: what it did not do, where no row says more.
    """
    got = "\n".join(messages[:MOST_LINES])
    for known in KNOWN:
        for message in messages:
            if found := re.search(known.pattern, message):
                groups = {name: text for name, text in found.groupdict().items() if text}
                node = groups.get("node") or groups.get("topk") or _node_of(message)
                kind = MissingError if known.missing else InputError
                where = {"stage": stage, **({"node": node} if node else {})}
                what = known.what.format(detail=groups.get("detail", ""))
                return kind(f"{title}: {what}", got=got, hint=known.hint, where=where)
    node = next(filter(None, map(_node_of, messages)), "")
    return InputError(f"{title} {doing}", got=got, where={"stage": stage, **({"node": node} if node else {})})


def _node_of(message: str) -> str:
    """The node that the parser was at."""
    found = NODE_OF_PARSER.search(message)
    return found[1] if found else ""
