"""A YAML file with overrides: plain data, and where each value came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from fnn.choices import ConfigError, Path, dotted
from fnn.trees import near

SECTIONS: set[Path] = {
    (),
    ("data",),
    ("data", "normalize"),
    ("init_from",),
    ("train",),
    ("train", "execution"),
    ("train", "checkpoint"),
}
"""Mappings of fields. Every other mapping is a choice, or the arguments of one."""

FIRST_FIELDS: dict[Path, str] = {("init_from",): "path"}
"""The field of a section that stands for all of it where it is the only one: ``init_from: FILE``."""

DEEPEST = 100
"""Levels of nesting, with those of an override's key; a parser takes time that grows with their square."""
LARGEST = 64
"""Bits of a whole number."""

_NUMBER = re.compile(r"-?\d+")


@dataclass
class Document:
    """What a config says, and for each value the file and line, or the override, that said it.

    Attributes:
        tree: Plain dicts, lists and scalars.
        source: The file's name.
        notes: What overrides replaced, one line each.
    """

    tree: dict[str, Any]
    source: str = ""
    lines: dict[Path, int] = field(default_factory=dict)
    overrides: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def where(self, path: Path) -> str:
        """``file:line`` or the override that says what stands at a path, or above it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.overrides:
                return f"override {self.overrides[path[:end]]}"
            below = [text for p, text in self.overrides.items() if end and p[:end] == path[:end]]
            if below and path[:end] not in self.lines:
                return f"override {below[0]}"
            if path[:end] in self.lines:
                return f"{self.source}:{self.lines[path[:end]]}"
        return self.source

    @contextmanager
    def located(self) -> Iterator[None]:
        """Put file and line, or the override, before the message of a ConfigError."""
        try:
            yield
        except ConfigError as error:
            where = self.where(error.path)
            raise ConfigError((), f"{where}: {error}" if where else str(error)) from None

    def origin(self) -> list[str]:
        """Where it comes from, in a few lines: the file, the overrides, and what these replaced."""
        return [f"resolved from {self.source}", *self.overrides.values(), *self.notes] if self.source else []


def read(file: str | FilePath) -> Document:
    """Read a config: YAML 1.2 without tags, anchors and duplicate keys.

    Raises:
        ConfigError: The file cannot be read, is no YAML mapping, or holds what is refused; the message
            begins with file and line.
    """
    try:
        text = FilePath(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError((), f"{file}: cannot be read: {reason}") from None
    return parse(text, str(file))


def parse(text: str, source: str) -> Document:
    """A config from its text, as in `read`; ``source`` is what messages call it."""
    lines: dict[Path, int] = {}
    tree = _parse(text, source, lines)
    if not isinstance(tree, dict):
        raise ConfigError((), f"{source}: expected a mapping of sections such as model, data, train")
    return Document(tree, source, lines)


def override(document: Document, texts: Iterable[str], first_argument: Callable[[str], str | None]) -> None:
    """Apply ``dotted.key=value`` texts to a document, in order. The value is YAML.

    A key in a list is an index, or a layer's name. One under another name than the choice's replaces it.

    Args:
        document: Changed in place.
        texts: The overrides.
        first_argument: The name of a constructor's first argument, by the name of the choice; for
            ``{sgd: 0.1}`` that gets a second argument.

    Raises:
        ConfigError: A text has no ``=``, its value is no YAML, or its key leads nowhere.
    """
    for text in texts:
        key, equals, value_text = text.partition("=")
        if not equals or not key:
            raise ConfigError((), f"expected an override dotted.key=value, got {text!r}")
        value = _parse(value_text, f"override {text}", {}, depth=key.count(".") + 1)
        path = _Override(document, text, first_argument).put(key.split("."), value)
        _forget(document, path)
        document.overrides[path] = text


def write(tree: dict[str, Any], head: Iterable[str] = ()) -> str:
    """The YAML text of plain data, below comment lines."""
    from io import StringIO

    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.default_flow_style = False
    yaml.representer.ignore_aliases = lambda data: True
    yaml.representer.add_representer(str, _represent_text)
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    out = StringIO()
    yaml.dump(tree, out)
    comments = [line for text in head for line in text.splitlines()]
    return "".join(f"# {line}\n" for line in comments) + out.getvalue()


def _represent_text(representer: Any, text: str) -> Any:
    """Quoted where YAML would take a character for the end of a line."""
    style = '"' if any(c in text for c in "\x85\u2028\u2029") else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


class _Override:
    """One override on its way down a document."""

    def __init__(self, document: Document, text: str, first_argument: Callable[[str], str | None]) -> None:
        self.document, self.text, self.first_argument = document, text, first_argument

    def put(self, keys: list[str], value: Any) -> Path:
        """Set the value; returns the path that the keys lead to."""
        path: Path = ()
        self.document.tree, path = self._set(self.document.tree, keys, value, path, choice=False)
        return path

    def _set(self, node: Any, keys: list[str], value: Any, path: Path, choice: bool) -> tuple[Any, Path]:
        if not keys:
            return value, path
        if isinstance(node, list):
            return self._into_list(node, keys, value, path)
        if choice and not _NUMBER.fullmatch(keys[0]):
            return self._into_choice(node, keys, value, path)
        return self._into_mapping(node, keys, value, path)

    def _into_list(self, node: list[Any], keys: list[str], value: Any, path: Path) -> tuple[Any, Path]:
        key, *rest = keys
        names = child_names(node)
        if _NUMBER.fullmatch(key) and -len(node) <= int(key) < len(node):
            i = int(key) % len(node)
            new, path = self._set(node[i], rest, value, (*path, i), choice=True)
        elif key in names:
            i = names.index(key)
            kind = _choice_name(node[i]) or key
            new, path = self._set(node[i], [kind, *rest] if rest else [], value, (*path, i), choice=True)
        else:
            known = [*map(str, range(len(node))), *names]
            raise ConfigError(
                (), f"override {self.text}: no {key!r} in {dotted(path)}; nearest: {near(key, known)}"
            )
        return [*node[:i], new, *node[i + 1 :]], path

    def _into_choice(self, node: Any, keys: list[str], value: Any, path: Path) -> tuple[Any, Path]:
        name, *rest = keys
        old = _choice_name(node)
        if old != name and old is not None:
            self.document.notes.append(f"{self.text} replaces {dotted(path)}: {old}")
        arguments = node[name] if isinstance(node, dict) and old == name else None
        if rest and not isinstance(arguments, dict) and not _leads_into(arguments, rest[0]):
            arguments = self._by_name(name, arguments)
        new, path = self._set(arguments, rest, value, (*path, name), choice=False)
        return {name: new}, path

    def _into_mapping(self, node: Any, keys: list[str], value: Any, path: Path) -> tuple[Any, Path]:
        key, *rest = keys
        if not isinstance(node, dict):
            node = {FIRST_FIELDS[path]: node} if path in FIRST_FIELDS and node is not None else {}
        below = (*path, key)
        new, path = self._set(node.get(key), rest, value, below, choice=below not in SECTIONS)
        return {**node, key: new}, path

    def _by_name(self, name: str, scalar: Any) -> dict[str, Any]:
        first = self.first_argument(name)
        return {first: scalar} if first is not None and scalar is not None else {}


def child_names(layers: list[Any]) -> list[str]:
    """The names that the layers of a list get: their own, or their kind and number."""
    numbers: dict[str, int] = {}
    names = []
    for layer in layers:
        kind = _choice_name(layer) or ""
        arguments = layer.get(kind) if isinstance(layer, dict) else None
        own = arguments.get("name") if isinstance(arguments, dict) else None
        if own is None:
            numbers[kind] = numbers.get(kind, 0) + 1
        names.append(str(own) if own is not None else f"{kind}{numbers[kind]}")
    return names


def _leads_into(arguments: Any, key: str) -> bool:
    """Whether a key is an index or a name in a list."""
    return isinstance(arguments, list) and bool(_NUMBER.fullmatch(key) or key in child_names(arguments))


def _choice_name(node: Any) -> str | None:
    if isinstance(node, str):
        return node
    if isinstance(node, dict) and len(node) == 1:
        return str(next(iter(node)))
    return None


def _forget(document: Document, path: Path) -> None:
    """What an override replaced has no line, and no earlier override, any more."""
    document.lines = {p: line for p, line in document.lines.items() if p[: len(path)] != path}
    document.overrides = {p: text for p, text in document.overrides.items() if p[: len(path)] != path}


def _parse(text: str, source: str, lines: dict[Path, int], depth: int = 0) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            depth += _refuse(event, source, depth)
        tree = YAML(typ="rt", pure=True).load(text)
    except ConfigError:
        raise
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem or error.context).splitlines()[0]
        raise ConfigError((), f"{source}:{line}: {problem}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError((), f"{source}:{line}: {str(error).splitlines()[0]}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError((), f"{source}: no YAML: {str(error).splitlines()[0]}") from None
    try:
        return _plain(tree, (), lines)
    except ConfigError as error:
        where = f"{source}:{lines[error.path]}" if error.path in lines else source
        raise ConfigError((), f"{where}: {error}") from None


def _refuse(event: Any, source: str, depth: int) -> int:
    """Refuse what is no plain data, or too deep; returns the levels that an event opens or closes."""
    line = event.start_mark.line + 1
    if depth > DEEPEST:
        raise ConfigError((), f"{source}:{line}: expected at most {DEEPEST} levels of nesting")
    if getattr(event, "version", None) not in (None, (1, 2)):
        raise ConfigError((), f"{source}:{line}: expected YAML 1.2, got {'.'.join(map(str, event.version))}")
    if getattr(event, "tag", None) is not None:
        raise ConfigError((), f"{source}:{line}: tags are refused, a config is plain data: {event.tag}")
    if getattr(event, "value", None) == "<<" and event.style is None:
        raise ConfigError((), f"{source}:{line}: merge keys are refused, a config says all in its place: <<")
    if getattr(event, "anchor", None) is not None:
        raise ConfigError((), f"{source}:{line}: anchors and aliases are refused: {event.anchor}")
    kind = type(event).__name__
    return kind.endswith("StartEvent") - kind.endswith("EndEvent")


def _plain(node: Any, path: Path, lines: dict[Path, int]) -> Any:
    """Round-trip nodes as plain data; the line of every key and item is noted."""
    place: Any = getattr(node, "lc", None)
    if isinstance(node, dict):
        for key in node:
            lines[(*path, str(key))] = place.key(key)[0] + 1
        return {_key(k): _plain(v, (*path, str(k)), lines) for k, v in node.items()}
    if isinstance(node, list):
        for i in range(len(node)):
            lines[(*path, i)] = place.item(i)[0] + 1
        return [_plain(v, (*path, i), lines) for i, v in enumerate(node)]
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, int) and node.bit_length() > LARGEST:
        raise ConfigError(path, f"expected a number of at most {LARGEST} bits, got {node.bit_length()}")
    for kind in (int, float):
        if isinstance(node, kind):
            return kind(node)
    return str(node)


def _key(key: Any) -> Any:
    return int(key) if isinstance(key, int) and not isinstance(key, bool) else str(key)
