"""What pyproject.toml has no words for: native ops that this checkout has built go into the wheel.

`lat-export plugins build` puts them into build/plugins. With them the wheel holds `lat_export/_native` and is of this
platform (any Python 3); without, it is pure, and every lat node runs as its ONNX function body.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

PLUGINS = Path(__file__).parent / "build" / "plugins"
LIBRARIES = ("liblat_kernels.so", "liblat_ort.so")
CONTENTS = "plugins.json"
INSIDE = Path("lat_export", "_native")


def built() -> list[Path]:
    """The files of a build, or none: without the kernels or the table of contents there is nothing to take."""
    if not (PLUGINS / LIBRARIES[0]).is_file() or not (PLUGINS / CONTENTS).is_file():
        return []
    return [PLUGINS / name for name in (*LIBRARIES, CONTENTS) if (PLUGINS / name).is_file()]


class BuildWithPlugins(build_py):
    """Copies them beside the modules; an editable install finds them in build/plugins itself."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib) / INSIDE
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier build
        for file in built():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, folder)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [
            *super().get_outputs(include_bytecode),
            *(str(Path(self.build_lib) / INSIDE / file.name) for file in built() if not self.editable_mode),
        ]


class WithPlugins(Distribution):
    def has_ext_modules(self) -> bool:
        """Whether it is of one platform."""
        return bool(built())


class WheelWithPlugins(bdist_wheel):
    """Native code is C behind ctypes, so any Python 3 and any ABI of it will do."""

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        return (python, abi, platform) if self.root_is_pure else ("py3", "none", platform)


setup(distclass=WithPlugins, cmdclass={"build_py": BuildWithPlugins, "bdist_wheel": WheelWithPlugins})
