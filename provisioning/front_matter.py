"""The YAML at the head of a Markdown file, between two lines `---`: strictly read, since others may have written it."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

_HEAD = re.compile(r"---[ \t]*\n(?P<yaml>(?:.*\n)*?)---[ \t]*(?:\n|\Z)")


class Unsound(ValueError):
    """What is wrong with it, in one line."""


def split(text: str) -> tuple[dict[str, Any], str]:
    """The keys of the front matter, and the text below it. Raises `Unsound`.

    No alias is followed (a few of them can stand for gigabytes), no key is said twice, and none is without a value.
    """
    if not re.match(r"---[ \t]*(\n|\Z)", text):
        return {}, text
    head = _HEAD.match(text)
    if not head:
        raise Unsound("its front matter has no end: close it with a line of three dashes")
    found = _parsed(head["yaml"])
    _require_values(found, "")
    return found, text[head.end() :]


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        # The first line of the file is the dashes.
        raise Unsound(f"its front matter is no sound YAML{f', line {mark.line + 2}' if mark else ''}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise Unsound(f"its front matter is no sound YAML: {error}") from error
    except (ValueError, ArithmeticError) as error:
        raise Unsound("its front matter holds a day that no calendar has, or a number that is too long") from error
    except RecursionError:
        raise Unsound("its front matter is nested too deeply") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Unsound("its front matter must hold keys with values, such as `model: NAME`")
    return found


def _require_values(found: dict[str, Any], within: str) -> None:
    for key, value in found.items():
        if not isinstance(key, str):
            raise Unsound("its front matter has a key that is no text")
        if value is None:
            raise Unsound(f"{within}{key} has no value; where it begins with #, put it in quotes")
        if isinstance(value, dict):
            _require_values(value, f"{within}{key}.")


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is said twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)
