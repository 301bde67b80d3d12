"""The command line of ``crew``, as data for argparse, for the help and for shell completion."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import Any, NoReturn

from crew_tx._version import __version__
from crew_tx.cli.crew.exits import TEXT, USAGE
from crew_tx.cli.readers import Reader, seconds, shown, whole_number
from crew_tx.cli.settings import BROKER_SETTINGS, Setting

PROGRAM = "crew"
SERIALIZERS = ("cbor", "json", "text", "bytes")
SHELLS = ("bash", "zsh", "fish")
_CONNECT_TIMEOUT = 5.0
_LONGEST_WAIT = 3600.0
_LONGEST_PAUSE = 60.0

_TARGET = "a worker's id or name, or the name of a service, queue or task; all workers if left out"
_TASK = "the task's id; for a service's method service.method"
_MGT = (
    "mgt, mgt.NAME and mgt.WORKER stand for workers, and not for a task: the data is a control command "
    'then, such as {"c": "ping"}.'
)


class Parser(ArgumentParser):
    """Tells in one line what is wrong, and the way to the help."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(USAGE)


def make_parser() -> Parser:
    """The parser of the whole command line; ``run`` of what it returns names the verb's function."""
    parser = Parser(
        prog=PROGRAM,
        description="Calls tasks, publishes events, and looks after workers and the broker.",
        epilog=f"{TEXT}\nThe broker is named by --broker or CREW_BROKER. See crew VERB --help for each verb.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"crew_tx {__version__}")
    parser.set_defaults(
        json=False,
        verbose=False,
        connect_timeout=_CONNECT_TIMEOUT,
        ends_by_interrupt=False,
        needs_broker=True,
    )
    _add_common(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for add in (_calls, _map, _events, _questions, _orders, _top, _queues, _dead, _init, _completion):
        add(verbs)
    return parser


def _verb(
    verbs: Any, name: str, run: str, help: str, example: str, more: str = "", **defaults: Any
) -> Parser:
    """
    Add a verb.

    :param run: ``module:function``.
    :param example: command lines, one a line.
    """
    examples = "\n".join(f"  {line}" for line in example.splitlines())
    verb: Parser = verbs.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.{' ' if more else ''}{more}",
        epilog=f"example:\n{examples}",
        formatter_class=RawDescriptionHelpFormatter if not more else _Wrapping,
        allow_abbrev=False,
    )
    verb.set_defaults(run=run, **defaults)
    _add_common(verb)
    return verb


class _Wrapping(RawDescriptionHelpFormatter):
    """Leaves the example's lines as they are, and wraps all other text."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("example:"):
            return text
        return super(RawDescriptionHelpFormatter, self)._fill_text(text, width, indent)


def _add_common(parser: Parser) -> None:
    """What each verb has, and what may as well come before it: so nothing here has a default."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", default=SUPPRESS, help="print JSON, for programs")
    group.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        default=SUPPRESS,
        help="tell more on stderr, and show tracebacks",
    )
    group = parser.add_argument_group("broker")
    for setting in BROKER_SETTINGS.values():
        _add_setting(group, setting)
    # Without this, it would be a wrong option only, and on the screen of everybody who runs ps.
    group.add_argument("--password", type=_no_password, default=SUPPRESS, help=SUPPRESS)
    group.add_argument(
        "--connect-timeout",
        type=_typed(_some_seconds),
        default=SUPPRESS,
        metavar="SECONDS",
        help=f"wait so long for the connection [{_CONNECT_TIMEOUT:g}]",
    )


def _add_setting(group: Any, setting: Setting) -> None:
    names = [f"-{setting.short}"] if setting.short else []
    is_file = setting.name in ("config", "password-file", "signing-keys") or setting.name.startswith("tls-")
    help = setting.help.replace("its table [worker] has these options as keys", "its table [crew] has these")
    group.add_argument(
        *names,
        f"--{setting.name}",
        dest=setting.name,
        default=SUPPRESS,
        metavar="FILE" if is_file else "URL" if setting.name == "broker" else "TEXT",
        help=help,
    )


def _no_password(text: str) -> NoReturn:
    raise ArgumentTypeError("all users of the machine would see it; write it into a file for --password-file")


def _typed(read: Reader) -> Callable[[str], Any]:
    """A reader of settings, for argparse."""

    def typed(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return typed


def _some_seconds(text: str) -> float:
    value: Any = seconds(text)
    if not 0 < value <= _LONGEST_WAIT:
        raise ValueError(f"takes a number of seconds, over 0 and up to {_LONGEST_WAIT:g}, not {shown(text)}")
    return float(value)


def _pause(text: str) -> float:
    value: Any = seconds(text)
    if value > _LONGEST_PAUSE:
        raise ValueError(f"takes a number of seconds, 0 to {_LONGEST_PAUSE:g}, not {shown(text)}")
    return float(value)


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"takes name=value, not {shown(text)}")
    return name, value


# -- the verbs -------------------------------------------------------------------------


def _calls(verbs: Any) -> None:
    call = _verb(
        verbs,
        "call",
        "calls:call",
        "run a task on some worker, and print what it returns",
        'crew call example.add \'{"x": 10, "y": 20}\'\n'
        'crew call example \'{"c": "add", "x": 10, "y": 20}\'\n'
        'crew call mgt.example \'{"c": "stats"}\'\n'
        "crew call report @request.json --timeout 60 --priority 200",
        _MGT,
    )
    _add_call_options(call)
    call.add_argument(
        "--require-worker", action="store_true", help="fail at once if no worker of it is connected"
    )
    send = _verb(
        verbs,
        "send",
        "calls:send",
        "have a task run, one way: nobody waits for an answer",
        "crew send cleanup '{\"days\": 30}' --expiration 3600",
    )
    _add_call_options(send)


def _map(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "map",
        "mapping:map_items",
        "run a task for many items, and print a line of JSON for each",
        "crew map resize --items names.jsonl --window 50\n"
        "crew map resize --items names.json --json-array --errors value\n"
        "crew map example.square --unordered --retries 2",
        "A window of items is with workers at a time, and more are read only when results are printed. "
        "It ends with the first error; with --errors value it goes on, and errors stand in the place of "
        "results, as maps with error and message. The exit code is 1 if any item failed.",
    )
    verb.add_argument("task", metavar="TASK", help=_TASK)
    verb.add_argument(
        "--items", default="-", metavar="FILE", help="one JSON value a line; - for standard input [-]"
    )
    verb.add_argument("--json-array", action="store_true", help="the items are one JSON array")
    verb.add_argument(
        "--window",
        type=_typed(whole_number(1, 100_000)),
        default=100,
        metavar="N",
        help="items at a time, results that are not printed yet included [100]",
    )
    verb.add_argument("--unordered", action="store_true", help="print results as they come")
    verb.add_argument("--with-items", action="store_true", help="print maps of item and value, or error")
    verb.add_argument(
        "--retries",
        type=_typed(whole_number(0, 1_000_000)),
        default=0,
        metavar="N",
        help="call again so often where a call fails [0]",
    )
    verb.add_argument(
        "--retry-pause",
        type=_typed(_pause),
        default=0.0,
        metavar="SECONDS",
        help="before that, twice as long each time; up to 60 [0]",
    )
    verb.add_argument(
        "--stragglers",
        type=_typed(whole_number(0, 100_000)),
        default=0,
        metavar="N",
        help="call for so many late items a second time at the end; for tasks that may run twice [0]",
    )
    verb.add_argument(
        "--errors", choices=("raise", "value"), default="raise", help="end with the first, or go on [raise]"
    )
    verb.add_argument(
        "--serializer", choices=("cbor", "json"), default="cbor", help="how items travel [cbor]"
    )
    _add_delivery(verb, "seconds that each may run")


def _add_call_options(verb: Parser) -> None:
    verb.add_argument("task", metavar="TASK", help=_TASK)
    _add_data(verb)
    _add_delivery(verb, "seconds that it may run; with mgt, seconds to gather answers for [1]")
    verb.add_argument("--call-id", metavar="ID", help="an id of your choosing")


def _add_delivery(verb: Parser, wait: str) -> None:
    verb.add_argument("--timeout", type=_typed(_some_seconds), metavar="SECONDS", help=wait)
    verb.add_argument(
        "--expiration",
        type=_typed(seconds),
        default=86_400.0,
        metavar="SECONDS",
        help="seconds that it may wait in its queue [86400]",
    )
    verb.add_argument("--priority", type=_typed(whole_number(0, 255)), default=0, metavar="0-255", help="[0]")


def _add_data(verb: Parser) -> None:
    verb.add_argument(
        "data", metavar="DATA", nargs="?", help="JSON; @FILE for a file's, - for standard input's; else null"
    )
    verb.add_argument(
        "--header", type=_header, action="append", default=[], metavar="NAME=VALUE", help="may be repeated"
    )
    verb.add_argument(
        "--serializer",
        choices=SERIALIZERS,
        default="cbor",
        help="how it travels; with text and bytes the data is sent as it is [cbor]",
    )
    verb.add_argument("--transient", action="store_true", help="do not keep it over a restart of the broker")


def _events(verbs: Any) -> None:
    publish = _verb(
        verbs,
        "publish",
        "events:publish",
        "publish an event to all who are subscribed to a channel",
        'crew publish news.sport \'{"score": "2:1"}\'',
    )
    publish.add_argument("channel", metavar="CHANNEL")
    _add_data(publish)
    subscribe = _verb(
        verbs,
        "subscribe",
        "events:subscribe",
        "print the events of a channel, until interrupted",
        "crew subscribe 'news.#'\ncrew subscribe alarms --count 1 --json",
        "A pattern is a channel, too: * is one word, # any number of them.",
        ends_by_interrupt=True,
    )
    subscribe.add_argument("channel", metavar="CHANNEL")
    subscribe.add_argument(
        "--count", type=_typed(whole_number(1, 1_000_000_000)), metavar="N", help="end after so many events"
    )


#: The verbs that only look, and what they are for.
_LOOKING = {
    "ping": "ask which workers are there",
    "stats": "ask workers what they have done, and do",
    "tasks": "ask workers for their tasks",
    "active": "ask workers what runs, for how long and for whom",
    "stacks": "ask workers where in its code each running task is",
    "errors": "ask workers which calls they answered with an error lately",
}
#: Those that steer all workers, if all is what is meant.
_STEERING = {
    "pause": "have workers take no more calls, and hand back those that are not begun",
    "resume": "have paused workers take calls again",
    "drain": "have workers end, once what runs has ended; a supervisor starts no other in their place",
    "kill": "end workers now: what runs goes to others (needs the worker's --allow-kill)",
}


def _questions(verbs: Any) -> None:
    for name, help in _LOOKING.items():
        verb = _verb(verbs, name, f"control:{name}", help, f"crew {name}\ncrew {name} example")
        _add_target(verb)


def _orders(verbs: Any) -> None:
    for name, help in _STEERING.items():
        example = f"crew {name} worker-2f6c0a\ncrew {name} --all"
        _add_target(_verb(verbs, name, "control:order", help, example), steers=True)
    threads = _verb(
        verbs,
        "threads",
        "control:threads",
        "have workers run so many tasks at once",
        "crew threads 16 example",
    )
    threads.add_argument("number", type=_typed(whole_number(1, 10_000)), metavar="N")
    _add_target(threads, steers=True)
    cancel = _verb(verbs, "cancel", "control:cancel", "end a call that a worker has", "crew cancel 8f0e7c.1")
    cancel.add_argument("call_id", metavar="CALL_ID", help="as crew active shows it")
    _add_target(cancel)
    evaluate = _verb(
        verbs,
        "eval",
        "control:evaluate",
        "evaluate a Python expression in workers (needs their --allow-eval)",
        "crew eval 'worker.status().processed' example",
    )
    evaluate.add_argument("expression", metavar="EXPRESSION", help="worker is the worker")
    _add_target(evaluate, steers=True)


def _add_target(verb: Parser, steers: bool = False) -> None:
    verb.add_argument(
        "target", metavar="TARGET", nargs="?", help=_TARGET.partition(";")[0] if steers else _TARGET
    )
    if steers:
        verb.add_argument("--all", action="store_true", help="all workers")
    verb.add_argument(
        "--timeout",
        type=_typed(_some_seconds),
        default=1.0,
        metavar="SECONDS",
        help="gather answers for so long [1]",
    )
    verb.add_argument(
        "--expect",
        type=_typed(whole_number(1, 1_000_000)),
        metavar="N",
        help="end as soon as so many have answered",
    )


def _top(verbs: Any) -> None:
    top = _verb(
        verbs,
        "top",
        "top:top",
        "show workers, rates, queues and what runs, again and again",
        "crew top\ncrew top --once --json",
        ends_by_interrupt=True,
    )
    top.add_argument("--once", action="store_true", help="show it once")
    top.add_argument(
        "--interval", type=_typed(_some_seconds), default=2.0, metavar="SECONDS", help="between two looks [2]"
    )


def _queues(verbs: Any) -> None:
    queues = _verb(
        verbs,
        "queues",
        "queues:queues",
        "show how many calls wait in queues",
        "crew queues\ncrew queues example report",
        "Without a QUEUE: those of all workers that are there, and the queue of dead letters.",
    )
    queues.add_argument("queue", metavar="QUEUE", nargs="*", help="without the crew.tasks. in front")
    queues.add_argument(
        "--timeout",
        type=_typed(_some_seconds),
        default=1.0,
        metavar="SECONDS",
        help="gather workers' answers for so long [1]",
    )


def _dead(verbs: Any) -> None:
    group = verbs.add_parser(
        "dead",
        help="look after calls that nobody took, and whose callers are gone",
        description="Look after dead letters: calls that nobody took, and whose callers are gone.",
        epilog="example:\n  crew dead list\n  crew dead requeue --task report\n  crew dead purge",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    dead_list = _verb(
        actions,
        "list",
        "dead:show",
        "show dead letters, and leave them where they are",
        "crew dead list --count 10",
    )
    _add_bound(dead_list, 50, "look at so many at most")
    requeue = _verb(
        actions,
        "requeue",
        "dead:requeue",
        "send dead calls to their tasks again, one way",
        "crew dead requeue --task report\ncrew dead requeue --id 8f0e7c.1 --expiration 3600",
    )
    _add_bound(requeue, 1000, "look at so many at most")
    requeue.add_argument("--task", metavar="TASK", help="only the calls of this task")
    requeue.add_argument("--id", metavar="CALL_ID", help="only this call")
    requeue.add_argument(
        "--expiration",
        type=_typed(seconds),
        metavar="SECONDS",
        help="seconds that they may wait [as long as they might at first; else 86400]",
    )
    purge = _verb(actions, "purge", "dead:purge", "delete all dead letters", "crew dead purge --yes")
    purge.add_argument("--yes", action="store_true", help="do not ask")


def _add_bound(verb: Parser, default: int, help: str) -> None:
    verb.add_argument(
        "--count",
        type=_typed(whole_number(1, 10_000)),
        default=default,
        metavar="N",
        help=f"{help} [{default}]",
    )


def _init(verbs: Any) -> None:
    init = _verb(
        verbs,
        "init",
        "init:init",
        "declare the exchanges and queues that clients and workers use, where they may not",
        "crew init\ncrew init --task report --task example --queue-type quorum",
    )
    init.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="TASK",
        help="declare its queue, too; may be repeated",
    )
    init.add_argument(
        "--queue-type",
        choices=("classic", "quorum"),
        default="classic",
        help="of the tasks' queues [classic]",
    )


def _completion(verbs: Any) -> None:
    completion = _verb(
        verbs,
        "completion",
        "completion:completion",
        "print what makes a shell complete crew's verbs and options",
        'eval "$(crew completion bash)"\ncrew completion fish > ~/.config/fish/completions/crew.fish',
        needs_broker=False,
    )
    completion.add_argument("shell", choices=SHELLS)
