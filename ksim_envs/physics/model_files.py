"""What a model's text says before MuJoCo reads it: the files that it refers to, and numbers that are none.

The files must lie in the model's own folder, or the model is refused before one is read.

MuJoCo opens whatever an MJCF or URDF file names: included files, other models, meshes, textures, height fields and
skins, by an absolute path, through `..` or through a link. A model from elsewhere should not reach further than the
folder that it came in.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ksim_envs.errors import InvalidConfigError

_FOLDER_OF = {
    "mesh": "meshdir",
    "hfield": "meshdir",
    "skin": "meshdir",
    "flexcomp": "meshdir",
    "texture": "texturedir",
}
"""The compiler's setting that says where the files of an element are; without it `assetdir` does."""
_COMMENT_OR_TAG = re.compile(r"""<!--.*?-->|(<(?:"[^"]*"|'[^']*'|[^"'>])*>)""", re.DOTALL)


def check_files(text: str, folder: Path, shown: str) -> set[Path]:
    """Refuse a model that refers to a file outside of its folder, links followed, or gives NaN for a number.

    Args:
        text: the model, MJCF or URDF.
        folder: the folder that the model lies in, from which its relative paths start.
        shown: the model's name in messages.

    Returns:
        The files that it refers to, whether they exist or not.

    Raises:
        InvalidConfigError: a path leads out of the folder, a number is NaN, or the model or a file that it includes is
            not XML.
    """
    check = _Check(allowed=Path(os.path.realpath(folder)), shown=shown, seen=set(), files=set())
    check.model(text, folder)
    return check.files


def read_xml(path: Path) -> str:
    """The text of a model file, whatever its bytes are."""
    return path.read_text(encoding="utf-8-sig", errors="replace")


@dataclass(frozen=True, kw_only=True)
class _Check:
    allowed: Path
    shown: str
    seen: set[Path]  # files that are being or have been checked
    files: set[Path]  # all that are referred to

    def model(self, text: str, folder: Path) -> None:
        """Check a model and what it includes, then the models that it attaches."""
        elements = list(self._elements(text, folder, folder))
        compiler = {
            name: value for element, _ in elements if element.tag == "compiler" for name, value in element.items()
        }
        for name in ("assetdir", "meshdir", "texturedir"):
            self._inside([folder / _slashed(compiler.get(name, ""))], compiler.get(name, ""))
        for element, home in elements:
            self._refuse_nan(element)
            for path in _paths(element):
                found = self._inside(_candidates(element.tag, path, compiler, folder, home), path)
                if element.tag == "model" and self._is_new(found):
                    self.model(read_xml(found), found.parent)

    def _elements(self, text: str, folder: Path, home: Path) -> Generator[tuple[Element, Path]]:
        """The elements of an XML text and of the files that it includes, each with the folder that its file lies in."""
        for element in self._parsed(text).iter():
            yield element, home
            for path in _paths(element) if element.tag == "include" else ():
                found = self._inside(_candidates("include", path, {}, folder, home), path)
                if self._is_new(found):
                    yield from self._elements(read_xml(found), folder, found.parent)

    def _parsed(self, text: str) -> Element:
        """The root of an XML text, in whose comments MuJoCo's parser allows double hyphens and Python's does not."""
        text = _COMMENT_OR_TAG.sub(lambda match: match[1] or "", text).strip()
        if "<!" in text:  # in which the two parsers may see different elements
            raise InvalidConfigError(f"The model {self.shown} has a DOCTYPE or a CDATA section; remove it.")
        try:
            return ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise InvalidConfigError(f"The model {self.shown} is not valid XML: {error}.") from error

    def _refuse_nan(self, element: Element) -> None:
        """Refuse a number that is none: MuJoCo may go on as if the attribute were not there."""
        for name, value in element.items():
            if name != "name" and any(map(math.isnan, _numbers(value))):
                raise InvalidConfigError(f"The model {self.shown} has {name}={value!r} in <{element.tag}>; correct it.")

    def _inside(self, candidates: list[Path], path: str) -> Path:
        """Where the file is, or would be; it is noted.

        Raises:
            InvalidConfigError: that is not in the allowed folder.
        """
        plain = [os.path.normpath(candidate) for candidate in candidates]  # "link/.." is away, as in MuJoCo's paths
        real = [Path(os.path.realpath(candidate)) for candidate in (*plain, *candidates)]
        real = [candidate for candidate in real if candidate.exists()] or real
        for candidate in real:
            if not candidate.is_relative_to(self.allowed):
                raise InvalidConfigError(
                    f"The model {self.shown} refers to {path!r}, which is {candidate}; it may only refer to files in "
                    f"its own folder, {self.allowed}. Copy the file there, or the model into a folder that holds both."
                )
        self.files.add(real[0])
        return real[0]

    def _is_new(self, path: Path) -> bool:
        """Whether there is such a file and it has not been seen before."""
        is_new = path.is_file() and path not in self.seen
        self.seen.add(path)
        return is_new


def _numbers(value: str) -> list[float]:
    """The numbers that an attribute lists; none if it is a name or a text."""
    try:
        return [float(word) for word in value.split()]
    except ValueError:
        return []


def _paths(element: Element) -> list[str]:
    """The files that an element names: by `file`, `fileright` and the like in MJCF, by `filename` in URDF."""
    return [value for name, value in element.items() if name.startswith("file")]


def _candidates(tag: str, path: str, compiler: dict[str, str], folder: Path, home: Path) -> list[Path]:
    """Where MuJoCo looks for a file: from the model's folder, then from the folder of the file that names it."""
    path = _slashed(path)
    if compiler.get("strippath") == "true" and tag in _FOLDER_OF:
        path = path.rpartition("/")[2]
    below = compiler.get(_FOLDER_OF[tag], compiler.get("assetdir", "")) if tag in _FOLDER_OF else ""
    return [start / _slashed(below) / path for start in (folder, home)]


def _slashed(path: str) -> str:
    return path.replace("\\", "/")
