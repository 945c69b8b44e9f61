"""What a kit's build.sh tells trtexec: profiles and builder options, in its own words.

Source: samples/common/sampleOptions.cpp of NVIDIA's public TensorRT repository, 11.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lat_export.engine_options import EngineOptions

Profiles = list[dict[str, list[list[int]]]]
VERBOSITIES = {"none": "none", "layer-names": "layer_names_only", "detailed": "detailed"}
HARDWARE_LEVELS = {"ampere+": "ampere+", "same-compute-capability": "sameComputeCapability"}
# By field of `EngineOptions`. Plugins are build.sh's own business: it alone knows where their library is.
WORDS: dict[str, Callable[[Any], str]] = {
    "workspace_bytes": lambda size: f"--memPoolSize=workspace:{size}B",
    "opt_level": lambda level: f"--builderOptimizationLevel={level}",
    "timing_cache": lambda name: f"--timingCacheFile={name}",
    "version_compatible": lambda _: "--versionCompatible",
    "hardware_compatible": lambda level: f"--hardwareCompatibilityLevel={HARDWARE_LEVELS[level]}",
    "strip_weights": lambda _: "--stripWeights",
    "refittable": lambda _: "--refit",
    "profiling_verbosity": lambda verbosity: f"--profilingVerbosity={VERBOSITIES[verbosity]}",
}


def trtexec_words(profiles: Profiles, options: EngineOptions) -> list[str]:
    """A word a line: options first, then profiles.

    Args:
        profiles: of each, by input, the smallest, usual and largest shape.
    """
    given = options.to_json()
    return [*(word(given[name]) for name, word in WORDS.items() if name in given), *trtexec_shapes(profiles)]


def trtexec_shapes(profiles: Profiles) -> list[str]:
    """trtexec's options for profiles, as `--minShapes=input_ids:1x16,attention_mask:1x16`.

    Of several, `--profile=1` comes before the shapes of the second one and only there.
    """
    words: list[str] = []
    for index, profile in enumerate(profiles):
        words += [f"--profile={index}"] if len(profiles) > 1 else []
        words += [
            f"--{bound}Shapes=" + ",".join(f"{name}:{'x'.join(map(str, sizes[at]))}" for name, sizes in profile.items())
            for at, bound in enumerate(("min", "opt", "max"))
        ]
    return words
