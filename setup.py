"""Builds the native part of fnn.kernels where it can be built; everything else is in pyproject.toml."""

import importlib.util
import warnings
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

location = Path(__file__).parent / "fnn" / "kernels" / "native" / "build.py"
spec = importlib.util.spec_from_file_location("build", location)
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)


class BuildNative(build_ext):
    """The library is no Python module: it has one name for all versions of Python."""

    def get_ext_filename(self, fullname):
        """The name without Python's version in it."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def build_extension(self, extension):
        """Build what can be built; say what cannot."""
        output = Path(self.get_ext_fullpath(extension.name))
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            native.build(output)
        except native.BuildError as error:
            warnings.warn(f"fnn is installed without its native kernels, and slower: {error}", stacklevel=1)


name = "fnn.kernels.native.fnn_native"
setup(
    ext_modules=[Extension(name, sources=[], optional=True)] if native.supported() else [],
    cmdclass={"build_ext": BuildNative},
)
