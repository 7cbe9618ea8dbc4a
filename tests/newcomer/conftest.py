"""biorel as a stranger installs it: its wheel in a fresh virtual environment that has nothing but its dependencies."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import biorel
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tiny_bert import write_encoder


class Stranger:
    """A folder to work in, and the programs of the fresh environment."""

    def __init__(self, folder: Path, programs: Path, encoder: Path) -> None:
        self.folder = folder
        self.encoder = encoder
        self._python = programs / "python"
        self._command = programs / "biorel"
        # Nothing of the checkout, and none of the settings of its tests.
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BIOREL", "VIRTUAL"))
        }

    def start(self, code: str) -> subprocess.Popen[str]:
        """Start a Python script."""
        return self._start(self._python, "-W", "error", "-c", code)

    def python(self, code: str) -> str:
        """Run a Python script; returns what it prints."""
        return self._finished(self.start(code)).stdout

    def module(self, *arguments: str) -> str:
        """Run ``python -m``; returns what it prints."""
        return self._finished(self._start(self._python, "-m", *arguments)).stdout

    def biorel(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command ``biorel``, which must end with this code."""
        return self._finished(self._start(self._command, *arguments), code)

    def _start(self, *command: Path | str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*map(str, command)], cwd=self.folder, env=self._environment, stdout=pipe, stderr=pipe, encoding="utf-8"
        )

    @staticmethod
    def _finished(process: subprocess.Popen[str], code: int = 0) -> subprocess.CompletedProcess[str]:
        output, errors = process.communicate()
        assert process.returncode == code, f"exit code {process.returncode}\n{output}\n{errors}"
        return subprocess.CompletedProcess(process.args, code, output, errors)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    """The fresh environment."""
    folder = tmp_path_factory.mktemp("newcomer")
    venv.create(folder / "venv", with_pip=False, symlinks=os.name != "nt")
    windows = os.name == "nt"
    site = (
        folder
        / "venv"
        / ("Lib/site-packages" if windows else f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages")
    )
    programs = folder / "venv" / ("Scripts" if windows else "bin")
    installed = distribution("biorel")
    for needed in _dependencies(installed):
        _share(needed, site)
    wheel = _pack(Path(biorel.__file__).parent, installed, folder)
    install = ["-m", "pip", "--python", programs / "python", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, *install], check=True)
    (folder / "work").mkdir()
    return Stranger(folder / "work", programs, write_encoder(folder / "encoder"))


def _dependencies(root: Distribution) -> list[Distribution]:
    """What the package declares that it needs, and what that needs, without extras."""
    found: dict[str, Distribution] = {}
    waiting = [root]
    while waiting:
        for text in waiting.pop().requires or []:
            needed = Requirement(text)
            name = canonicalize_name(needed.name)
            if name not in found and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
                found[name] = distribution(name)
                waiting.append(found[name])
    return list(found.values())


def _share(installed: Distribution, site: Path) -> None:
    """Link the files of an installed package into an environment, instead of downloading it again."""
    for top in {file.parts[0] for file in installed.files or [] if file.parts[0] not in ("..", "__pycache__")}:
        source, target = Path(str(installed.locate_file(top))), site / top
        if target.exists() or not source.exists():
            continue
        if os.name != "nt":
            target.symlink_to(source)
        elif source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)


def _pack(package: Path, installed: Distribution, folder: Path) -> Path:
    """A wheel of the package as it lies here, with the extension that is built already, and its own metadata."""
    version = installed.version
    info = f"biorel-{version}.dist-info"
    contents = {
        f"biorel/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name in ("METADATA", "entry_points.txt"):
        contents[f"{info}/{name}"] = (installed.read_text(name) or "").encode()
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: py3-none-any\n"
    lines = []
    for name, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    contents[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    wheel = folder / f"biorel-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return wheel
