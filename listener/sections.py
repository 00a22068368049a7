"""YAML mappings that know their lines and which of their keys were asked for, so that every mistake has its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from listener.errors import ConfigError, one_line


def parsed(text: str, file: Path) -> yaml.Node | None:
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{file}:{line}: not YAML: {error.reason}") from None
    try:
        node: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        said = f"{error.problem or error.context}"
        raise ConfigError(f"{file}:{line}: not YAML: {said}{_yaml_hint(said)}") from None
    except RecursionError:
        raise ConfigError(f"{file}:{loader.line + 1}: nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML's own chr() and int() among them
        raise ConfigError(f"{file}:{loader.line + 1}: not YAML: {one_line(str(error))}") from None
    finally:
        loader.dispose()
    if node is not None:
        _measure(node, file)
    return node


#: What to look for where PyYAML says this.
_HINTS = {
    "mapping values are not allowed": "check the indentation and the space after each ':'; quote text with ': ' in it",
    "expected <block end>": "check the indentation",
    "could not find expected ':'": "write 'key: value', with a space after ':'",
    r"character '\t'": "use spaces in place of tabs",
}


def _yaml_hint(said: str) -> str:
    return next((f"; {hint}" for words, hint in _HINTS.items() if words in said), "")


def _without_space(node: yaml.Node) -> str:
    """A hint where `key:value` stands in place of `key: value`, which is a text to YAML."""
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return "; write a space after ':'" if is_plain and re.match(r"[\w-]+:\S", node.value) else ""


def _measure(top: yaml.Node, file: Path) -> None:
    """Raises ConfigError where aliases lead back, lists and mappings are nested too deeply, or aliases multiply."""
    known: dict[int, tuple[int, int]] = {}
    above: set[int] = set()

    def measured(node: yaml.Node) -> tuple[int, int]:
        """How many values it has, and how many levels of them."""
        line = node.start_mark.line + 1
        if id(node) in above:
            raise ConfigError(f"{file}:{line}: what an anchor names stands within itself")
        if id(node) in known:
            return known[id(node)]
        above.add(id(node))
        size, height = 1, 0
        for inner in _inside(node):
            more, levels = measured(inner)
            size, height = size + more, max(height, levels + 1)
        above.discard(id(node))
        if height > _DEEPEST:
            raise ConfigError(f"{file}:{line}: nested too deeply; it can be {_DEEPEST} levels")
        if size > _MOST:
            raise ConfigError(f"{file}:{line}: more than {_MOST} values, those behind an alias counted each time")
        known[id(node)] = size, height
        return known[id(node)]

    try:
        measured(top)
    except RecursionError:
        raise ConfigError(f"{file}:1: nested too deeply; it can be {_DEEPEST} levels") from None


def _inside(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


#: Levels of lists and mappings within one another, and values with each alias counted again.
_DEEPEST, _MOST = 100, 100_000


class Section:
    """A YAML mapping that knows its lines and which of its keys were asked for.

    Attributes:
        file: for messages.
        what: likewise, its field.
        mistakes: get a sentence for each.
        line: where it begins.
        nodes: line and value by key.
        keys: the keys as they are written, by their text.
        mistaken: it is no mapping, which has been told.
    """

    def __init__(self, node: yaml.Node | None, file: str, what: str, mistakes: list[str]) -> None:
        self.file, self.what, self.mistakes = file, what, mistakes
        self.line = node.start_mark.line + 1 if node else 1
        self.nodes: dict[str, tuple[int, yaml.Node]] = {}
        self.keys: dict[str, yaml.ScalarNode] = {}
        self._asked: set[str] = set()
        self.mistaken = False
        if isinstance(node, yaml.MappingNode):
            self._read(node)
        elif node is not None and not is_null(node):
            self.complain(f"{what} is not a mapping of keys to values{_without_space(node)}")
            self.mistaken = True

    def _read(self, node: yaml.MappingNode) -> None:
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.complain_at(line, f"a key of {self.what} is not a piece of text")
                continue
            key = str(key_node.value)
            if key in self.nodes:
                self.complain_at(line, f"{key!r} stands twice in {self.what}")
            self.nodes[key] = (line, value)
            self.keys[key] = key_node

    def complain(self, sentence: str, key: str | None = None) -> None:
        """Adds a mistake at the line of a key, or of the whole. What is no mapping at all is told once."""
        if self.mistaken:
            return
        self.complain_at(self.line if key is None else self.line_of(key), sentence)

    def complain_at(self, line: int, sentence: str) -> None:
        self.mistakes.append(f"{self.file}:{line}: {one_line(sentence)}")

    def text(self, key: str, default: str | None) -> str | None:
        node = self.take(key)
        if node is None or is_null(node):
            return default
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self.complain(f"{key!r} is not a piece of text", key)
            return default
        return str(node.value)

    def sections(self, key: str) -> Iterator[tuple[str, Section]]:
        node = self.take(key)
        if node is None:
            return
        inner = Section(node, self.file, repr(key), self.mistakes)
        for name, (line, value) in inner.nodes.items():
            section = Section(value, self.file, f"{key}.{name}", self.mistakes)
            section.line = line
            yield name, section

    def number(self, key: str, low: float = float("-inf"), high: float = float("inf")) -> float | None:
        """A number above `low` and up to `high`; None where the key is missing, or wrong."""
        node = self.take(key)
        if node is None or is_null(node):
            return None
        try:
            value = float(node.value) if isinstance(node, yaml.ScalarNode) else low
        except ValueError:
            value = low
        if not low < value <= high or value == float("inf"):
            self.complain(f"{key!r} of {self.what} is not a number{_between(low, high)}", key)
            return None
        return value

    def whole(self, key: str, low: int, high: int) -> int | None:
        """A whole number from `low` up to `high`; None where the key is missing, or wrong."""
        node = self.take(key)
        if node is None or is_null(node):
            return None
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else low - 1
        if not low <= value <= high:
            self.complain(f"{key!r} of {self.what} is not a whole number from {low} to {high}", key)
            return None
        return value

    def flag(self, key: str) -> bool:
        """Whether it says `true`; without the key it does not."""
        word = self.one_of(key, "true", "false")
        return word == "true"

    def one_of(self, key: str, *words: str) -> str:
        """One of some words; "" where the key is missing, or wrong."""
        text = self.text(key, None)
        if text is not None and text not in words:
            self.complain(f"{key!r} of {self.what} is {text!r}; it can be {', '.join(words)}", key)
            return ""
        return text or ""

    def section(self, key: str) -> Section:
        """The mapping that a key has."""
        line, value = self.nodes.get(key, (self.line, None))
        self.knows(key)
        made = Section(value, self.file, f"{self.what}.{key}", self.mistakes)
        made.line = line
        return made

    def mapping(self, key: str) -> Section:
        """The mapping, of at least one key, that a key has."""
        section = self.section(key)
        if not section.nodes and not section.mistaken:
            self.complain(f"{key!r} of {self.what} is not a mapping of one or more", key)
        return section

    def line_of(self, key: str) -> int:
        """Where a key stands; without it, where the whole does."""
        return self.nodes[key][0] if key in self.nodes else self.line

    @property
    def lines(self) -> dict[str, int]:
        """Where each key stands."""
        return {key: line for key, (line, _) in self.nodes.items()}

    def knows(self, key: str) -> None:
        """Says that a key may stand here."""
        self._asked.add(key)

    def items(self, key: str) -> list[tuple[int, yaml.Node]]:
        """The elements of a list of at least one, each with its line."""
        node = self.take(key)
        if isinstance(node, yaml.SequenceNode) and node.value:
            return [(item.start_mark.line + 1, item) for item in node.value]
        self.complain(f"{key!r} of {self.what} is not a list of one or more", key)
        return []

    def refuse_others(self, meant: Callable[[str], str] = lambda key: "") -> None:
        """Complains of every key that nobody asked for, with a guess at what was meant.

        Args:
            meant: what is known of a key, as the end of the sentence; "" = nothing.
        """
        for key in [key for key in self.nodes if key not in self._asked]:
            near = difflib.get_close_matches(key, self._asked, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(self._asked))}"
            self.complain(f"unknown key {key!r} in {self.what}; {meant(key) or hint}", key)

    def take(self, key: str) -> yaml.Node | None:
        self._asked.add(key)
        return self.nodes[key][1] if key in self.nodes else None


def is_null(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _between(low: float, high: float) -> str:
    above = "" if low == float("-inf") else f" above {low:g}"
    return above if high == float("inf") else f"{above} and up to {high:g}"
