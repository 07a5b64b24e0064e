"""What is wrong with a setting, in one sentence with the names that exist.

jsonargparse says what it expected in terms of Python types; a person who wrote a recipe wants the setting's name and
what may stand there. Read off the messages of jsonargparse 4.53; a message of another kind is passed on as it is.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from augnet.nearest import nearest, plain

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
# What other tools call a setting.
ELSEWHERE = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "epochs": "inner_steps",
    "steps": "inner_steps",
    "iterations": "inner_steps",
    "amp": "precision",
}


def explained(message: str, settings: Sequence[str], families: Mapping[str, Sequence[type]]) -> str:
    """Put a message of jsonargparse into a sentence.

    Args:
        message: what jsonargparse raised.
        settings: names of all settings, with dots.
        families: members that may stand at a setting, by the last part of its name.
    """
    text = " ".join(message.split())
    key = ".".join(dict.fromkeys(re.findall(r'Parser key "([\w.]+)\+?"', text)))
    family = {member.__name__: member for member in families.get(key.split(".")[-1], ())}
    if found := re.search(r"unrecognized arguments: --([^\s=]*)", text):
        return _unknown(found[1], settings)
    if found := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text):
        return _unknown(f"{found[1]}.{found[2]}", settings)
    if found := re.search(r"class_path '[\w.]*?(\w+)': Option '([\w.]+)' is not accepted", text):
        member = next(m for ms in families.values() for m in ms if m.__name__ == found[1])
        return f"{found[1]} has no setting {found[2]!r}{nearest(found[2], _fields(member))}"
    if found := re.search(r"Option '([\w.]+)' is not accepted", text):
        return _unknown(found[1], settings)
    if found := re.search(r"(?:dot import path string:|valid subclass of \w+\. Got value:) (\S+)", text):
        return f"{key} has no member {found[1]!r}{nearest(found[1], family)}"
    if found := re.search(r"class_path '[\w.]*?(\w+)': the following arguments are required: (\w+)", text):
        return f"{found[1]} needs the setting {found[2]!r}; set {key}.{found[2]}"
    if found := re.search(r"Unable to load config ['\"](.*?)['\"]", text):
        of_it = [name for name in settings if name.startswith(f"{key}.")]
        return f"{key} is a group of settings, found {found[1]!r}; set one of them: {', '.join(of_it)}"
    if found := re.search(r"Expected an? (.+?)\. Got value: (.*?)(?: - Expected a <class|$)", text):
        return f"{key} should be {_words(found[1])}, found {found[2]!r}"
    # The error of a member's own check, wrapped because the setting may be null.
    if found := re.search(r"Errors: - (?!Expected|Problem)(.*?) - Expected a <class 'NoneType'>", text):
        return found[1]
    if found := re.search(r".*Subtypes: \[(.*?)\] Errors: .*? Given value: (.*?)(?: - Expected a <class|$)", text):
        return f"{key} should be {' or '.join(map(_words, found[1].split(', ')))}, found {found[2]!r}"
    return text


def check_recipe_file(path: Path | str, groups: Sequence[str]) -> None:
    """See that a file is YAML with settings by name.

    Args:
        path: the file.
        groups: settings that are groups of settings themselves.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no YAML, or not of that form.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no recipe at {path}; give the path of a YAML file")
    try:
        content: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ValueError(f"{path} holds {found}; write settings by name, such as `seed: 1`")
    for name in groups:
        if not isinstance(content.get(name, {}), dict):
            raise ValueError(f"{name} of {path} is a group of settings, found {content[name]!r}")


def _unknown(name: str, settings: Sequence[str]) -> str:
    """Say which settings were meant: of the group that was named, if there is one, by the last part of their names."""
    group, _, last = name.rpartition(".")
    of_group = [setting for setting in settings if setting.startswith(f"{group}.")]
    ends: dict[str, list[str]] = {}
    for setting in of_group or settings:
        ends.setdefault(plain(setting.rpartition(".")[2]), []).append(setting)
    wanted = plain(ELSEWHERE.get(last, last))
    near = [wanted] if wanted in ends else difflib.get_close_matches(wanted, ends)
    if near:
        return f"there is no setting {name!r}; did you mean {' or '.join(each for end in near for each in ends[end])}?"
    groups = sorted({setting.split(".")[0] for setting in settings})
    return f"there is no setting {name!r}; there is {', '.join(of_group or groups)}"


def _fields(member: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(member)]


def _words(kind: str) -> str:
    """Say what a type of Python is in a recipe."""
    if found := re.fullmatch(r"typing\.Literal\[(.*)\]", kind):
        return found[1].replace(", ", " or ")
    found = re.fullmatch(r"<class '(\w+)'>", kind)
    return TYPES.get(found[1], found[1]) if found else f"a {kind}"
