"""Shell completion of ``crew``, made of its parser."""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Iterator
from dataclasses import dataclass, field

from crew_tx.cli.crew.exits import OK
from crew_tx.cli.crew.output import Output
from crew_tx.cli.crew.parser import PROGRAM, make_parser


@dataclass(frozen=True, slots=True)
class Words:
    """
    What can follow a line such as ``crew dead``.

    :ivar path: the verbs so far.
    :ivar words: verbs and choices, with their help.
    :ivar options: with their help.
    :ivar files: the options that take a file.
    :ivar valued: the options that take anything else.
    """

    path: tuple[str, ...]
    words: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    valued: list[str] = field(default_factory=list)


def completion(arguments: Namespace, output: Output) -> int:
    """Print a script for one shell."""
    make = {"bash": bash, "zsh": zsh, "fish": fish}[arguments.shell]
    output.line(make(list(words_of(make_parser()))))
    return OK


def words_of(parser: ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[Words]:
    """What can follow each verb, the program's own first."""
    words = Words(path)
    below: list[tuple[str, ArgumentParser]] = []
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            words.words.update({name: helps.get(name, "") for name in action.choices})
            below += action.choices.items()
        elif not action.option_strings:
            words.words.update({str(each): "" for each in action.choices or ()})
        elif action.help != "==SUPPRESS==":
            _add_option(words, action)
    yield words
    for name, each in below:
        yield from words_of(each, (*path, name))


def _add_option(words: Words, action: Action) -> None:
    name = action.option_strings[-1]
    words.options[name] = (action.help or "").partition(";")[0]
    if action.metavar == "FILE":
        words.files.append(name)
    elif action.nargs != 0:
        words.valued.append(name)


def bash(all_words: list[Words]) -> str:
    """For ``eval`` in bash."""
    files = "|".join(dict.fromkeys(name for words in all_words for name in words.files))
    valued = "|".join(dict.fromkeys(name for words in all_words for name in words.valued))
    verbs = "\n".join(
        f"        {_bash_key(words)}) words='{' '.join([*words.words, *words.options])}' ;;"
        for words in all_words
    )
    groups = "|".join(dict.fromkeys(words.path[0] for words in all_words if len(words.path) > 1))
    return f"""_{PROGRAM}_complete() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" path="" words index
    for ((index = 1; index < COMP_CWORD; index++)); do
        case "${{COMP_WORDS[index]}}" in
        {files}|{valued}) ((index++)) ;;
        -*) ;;
        *)
            case "$path" in
            ""|{groups}) path="${{path:+$path }}${{COMP_WORDS[index]}}" ;;
            esac
            ;;
        esac
    done
    case "$previous" in
        {files}) COMPREPLY=($(compgen -f -- "$current")); return ;;
        {valued}) return ;;
    esac
    case "$path" in
{verbs}
        *) words='' ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _{PROGRAM}_complete {PROGRAM}"""


def _bash_key(words: Words) -> str:
    return f'"{" ".join(words.path)}"'


def zsh(all_words: list[Words]) -> str:
    """For ``eval`` in zsh, by its own reading of bash's completions."""
    return f"autoload -U +X bashcompinit && bashcompinit\n{bash(all_words)}"


def fish(all_words: list[Words]) -> str:
    """For fish's folder of completions."""
    lines = [f"complete -c {PROGRAM} -f"]
    for words in all_words:
        condition = _fish_condition(words, all_words)
        for word, help in words.words.items():
            lines.append(f"complete -c {PROGRAM} {condition} -a {word} -d {_fish_text(help)}")
        for option, help in words.options.items():
            files = " -r -F" if option in words.files else " -x" if option in words.valued else ""
            name = option.removeprefix("--")
            lines.append(f"complete -c {PROGRAM} {condition} -l {name}{files} -d {_fish_text(help)}")
    return "\n".join(lines)


def _fish_condition(words: Words, all_words: list[Words]) -> str:
    if not words.path:
        return "-n __fish_use_subcommand"
    seen = "; and ".join(f"__fish_seen_subcommand_from {verb}" for verb in words.path)
    below = [each.path[-1] for each in all_words if each.path[:-1] == words.path]
    if below:
        seen += f"; and not __fish_seen_subcommand_from {' '.join(below)}"
    return f"-n {_fish_text(seen)}"


def _fish_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
