"""The `colony` command: each command parses, makes one call and prints the answer."""

from __future__ import annotations

import io
import itertools
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from colony import (
    acl_commands,
    command_line,
    config,
    egress_commands,
    errors,
    login,
    operations,
    pipe,
    release,
    schema,
    secret_commands,
    show,
)
from colony.commands import Caller, command, plain, verbose
from colony.patience import repeated, until_answered

if TYPE_CHECKING:
    from colony.client import Client

STDIN = ("-",)


def main(arguments: Sequence[str] | None = None, connect: Callable[[config.Settings], Client] | None = None) -> int:
    """Run one command and return its exit code; every failure is one line on stderr."""
    caller = Caller(connect or _connect)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # no locale may keep a message from being read
    try:
        return group.main(arguments, prog_name="colony", standalone_mode=False, obj=caller) or 0
    except click.Abort:
        return command_line.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        return _fail(error.format_message() + _hint(error), error.exit_code, caller)
    except errors.ColonyError as error:
        return _fail(error.detail, error.exit_code, caller)
    except OSError as error:
        return _fail(str(error), errors.ColonyError.exit_code, caller)
    except Exception as error:
        return _fail(f"{type(error).__name__}: {error} (-v shows where)", errors.ColonyError.exit_code, caller)
    finally:
        caller.close()


class Group(command_line.Group):
    """Is quiet when nobody reads any more."""

    def invoke(self, context: click.Context) -> None:
        with pipe.to_its_end():
            super().invoke(context)


@click.group(cls=Group, params=[verbose()])
@click.option("--url", help="The colony: unix:/path/to/api.sock, http://… or https://…  [env: COLONY_URL]")
@click.option("--token", help="Your token. Other users of this machine can see it here: prefer `colony login`.  [env: COLONY_TOKEN]")
@click.version_option(release.version(), prog_name="colony")
@click.pass_obj
def group(caller: Caller, url: str | None, token: str | None) -> None:
    """Talk with the people and agents of a colony."""
    caller.url, caller.token = url, token
    if token:
        show.note("a token on the command line can be seen by other users of this machine; prefer `colony login` or COLONY_TOKEN")


@command(operations.READ, without=("wait",))
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C; with --json one document per line.")
def read(caller: Caller, follow: bool, **fields: Any) -> None:
    answer = caller.call(operations.READ, **fields)
    caller.show(answer)
    if follow:
        pipe.flush()  # the news may take long
        for news in _follow(caller, answer, fields):
            caller.show(news)
            pipe.flush()
    elif answer.messages and answer.messages[-1].seq < answer.last_seq:
        show.note(f"there is more; go on with --since {answer.messages[-1].seq}")


@command(operations.POST, without=("body",), help=f"{operations.POST.summary}\n\nTEXT may be several words; - reads it from stdin.")
@click.argument("text", nargs=-1)
def post(caller: Caller, text: tuple[str, ...], client_id: str | None, **fields: Any) -> None:
    body = _stdin() if text == STDIN else " ".join(text)
    if not body.strip():
        raise errors.Invalid("nothing to post; give a text, or - to read it from stdin")
    key = client_id or os.urandom(16).hex()  # with it, trying again never posts twice
    message = repeated(lambda: caller.call(operations.POST, body=body, client_id=key, **fields))
    caller.show(message)
    if client_id and message.duplicate:
        show.note("this client_id had been posted before; nothing new was stored")
    elif message.body != body:
        show.note("it held a secret of this colony, which is covered")
    for name in message.unknown_mentions:
        show.note(f"nobody here is called {name}; `colony users` lists everyone")
    for name in message.not_members:
        show.note(f"{name} is no member of #{message.channel} and was not told; `colony invite {message.channel} {name}` lets them in")


WHICH_MESSAGE = "MESSAGE is the id that `colony read` shows, or a channel with a number, like general#12."


@command(operations.EXPLAIN, without=("id",), help=f"{operations.EXPLAIN.summary}\n\n{WHICH_MESSAGE}")
@click.argument("message")
def explain(caller: Caller, message: str) -> None:
    caller.show(caller.call(operations.EXPLAIN, id=_message_id(caller, message)))


@command(operations.RETRY, without=("id",), help=f"{operations.RETRY.summary}\n\n{WHICH_MESSAGE}")
@click.argument("messages", metavar="MESSAGE...", nargs=-1, required=True)
def retry(caller: Caller, messages: tuple[str, ...], **fields: Any) -> None:
    for id in [_message_id(caller, message) for message in messages]:
        caller.show(repeated(partial(caller.call, operations.RETRY, id=id, **fields)))


def _waits(run: Callable[..., None]) -> Callable[..., None]:
    help = "Wait until something is there, at most S seconds if given."
    return click.option("--wait", metavar="[S]", type=click.FloatRange(0), is_flag=False, flag_value=math.inf, default=0, help=help)(run)


@command(operations.INBOX, without=("wait",))
@_waits
def inbox(caller: Caller, **fields: Any) -> None:
    caller.show(_items(caller, **fields))


@command(operations.INBOX, name="poll", without=("wait", "user"), help="Print what is new in your inbox, then acknowledge it.")
@_waits
def poll(caller: Caller, **fields: Any) -> None:
    found = _items(caller, **fields)
    caller.show(found)
    pipe.flush()  # what did not reach its reader stays in the inbox
    if found.items:
        repeated(lambda: caller.call(operations.ACK, ids=[item.id for item in found.items]))


@command(operations.EVENTS, without=("wait",))
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C; with --json one event per line.")
def events(caller: Caller, follow: bool, **fields: Any) -> None:
    answer = caller.call(operations.EVENTS, **fields)
    if not follow:
        caller.show(answer)
        return
    for event in itertools.chain(answer.events, caller.events(answer.position)):
        caller.show(event)
        pipe.flush()


@command(operations.ISSUE_TOKEN, name="token")
def issue_token(caller: Caller, **fields: Any) -> None:
    caller.show(caller.call(operations.ISSUE_TOKEN, **fields))
    show.note("this token is shown only now; the one before has stopped working")


@command(operations.LEAVE)
def leave(caller: Caller, **fields: Any) -> None:
    caller.show(caller.call(operations.LEAVE, **fields))
    show.note("you are no member of it any more")


@command(operations.REMOVE_MEMBER, name="remove")
def remove(caller: Caller, **fields: Any) -> None:
    caller.show(caller.call(operations.REMOVE_MEMBER, **fields))
    show.note(f"{fields['username'].removeprefix('@')} is no member of it any more")


def _moves(name: str, status: schema.Status) -> click.Command:
    @command(operations.SET_STATUS, name=name, without=("status",), help=f"Set an agent's status to {status}.")
    def move(caller: Caller, **fields: Any) -> None:
        caller.show(caller.call(operations.SET_STATUS, status=status, **fields))

    return move


@command(operations.APPROVE)
def approve(caller: Caller, **fields: Any) -> None:
    found = caller.call(operations.APPROVE, **fields)
    caller.show(found)
    told = "is told in the channel where it asked" if found.asker_is_told else "is not told; mention it, and it can ask again"
    show.note(f"{found.user} {told}")


@click.command("login", params=[verbose()])
@click.option("--url", help="The colony's address.")
@click.option("--token", help="Your token; asked for if it is missing, and not shown.")
@click.pass_obj
def log_in(caller: Caller, url: str | None, token: str | None) -> None:
    """Remember a colony's address and your token."""
    caller.show(login.login(url or caller.url, token or caller.token, caller.whoami))


@click.command("prove", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def prove(arguments: tuple[str, ...]) -> None:
    """Kill a private colony in every way, and check that nothing was lost or answered twice."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "prove", *arguments])  # it takes a colony apart; this one takes part in it


COMMANDS: dict[str, Sequence[click.Command]] = {
    "Talk": (
        read,
        post,
        plain(operations.CHANNELS),
        plain(operations.CREATE_CHANNEL, "name"),
        plain(operations.WATCH),
        plain(operations.UNWATCH),
        inbox,
        poll,
        plain(operations.ACK, "ids"),
    ),
    "Private channels": (plain(operations.MEMBERS), plain(operations.INVITE, "usernames"), leave, remove),
    "What became of it": (explain, retry, events, plain(operations.TURNS, "agent"), plain(operations.TURN), plain(operations.STOP)),
    "Agents": (
        plain(operations.AGENTS),
        _moves("pause", "paused"),
        _moves("resume", "healthy"),
        _moves("drain", "draining"),
        plain(operations.SET_LIMITS, name="limits"),
        plain(operations.SET_OWNER, "owner"),
    ),
    "What they may do and reach": (
        acl_commands.group,
        plain(operations.APPROVALS),
        approve,
        plain(operations.REFUSE),
        egress_commands.group,
        secret_commands.group,
    ),
    "People and this colony": (
        plain(operations.WHOAMI),
        log_in,
        plain(operations.USERS),
        plain(operations.CREATE_USER, "username"),
        plain(operations.REMOVE_USER),
        issue_token,
        plain(operations.REVOKE_TOKEN),
        prove,
    ),
}
for heading, commands in COMMANDS.items():
    group.add_below(heading, commands)


def _message_id(caller: Caller, message: str) -> int:
    """The id of a message that is named by it, or by its channel and number. Raises `Invalid` and `NotFound`."""
    channel, mark, number = message.removeprefix("#").rpartition("#")
    if not (number.isascii() and number.isdigit() and (channel or not mark)):
        raise errors.Invalid(f"{message!r} is no message; give an id like 57, or a channel and a number like general#12")
    if not mark:
        return int(number)
    found = caller.call(operations.READ, channel=channel, since=max(int(number) - 1, 0), limit=1).messages
    if not found or found[0].seq != int(number):
        raise errors.NotFound(f"there is no message {number} in {channel}")
    return found[0].id


def _follow(caller: Caller, answer: schema.Messages, fields: dict[str, Any]) -> Iterator[schema.Messages]:
    """What comes after the answer, without end: nothing lost and nothing twice, because each call names the last seq shown."""
    since = fields["since"] or answer.last_seq

    def ask() -> schema.Messages:
        return caller.call(operations.READ, **{**fields, "since": since, "wait": schema.MAX_WAIT_SECONDS})

    while True:
        if answer.messages:
            since = answer.messages[-1].seq
        elif answer.last_seq < since:  # the colony was restored from a backup: its last message says so
            since = max(0, answer.last_seq - 1)
        answer = until_answered(ask)
        if answer.messages:
            yield answer


def _items(caller: Caller, wait: float, **fields: Any) -> schema.Inbox:
    """The inbox as soon as it holds something, or after `wait` seconds as it is."""
    deadline = time.monotonic() + wait

    def ask() -> schema.Inbox:
        seconds = min(max(deadline - time.monotonic(), 0), schema.MAX_WAIT_SECONDS)
        return caller.call(operations.INBOX, wait=seconds or None, **fields)

    answer = ask()
    while not answer.items and (left := deadline - time.monotonic()) > 0:
        answer = until_answered(ask, left)
    return answer


def _stdin() -> str:
    if sys.stdin is None:
        raise errors.Invalid("there is no stdin to read from")
    raw = sys.stdin.buffer.read(schema.MAX_BODY_BYTES + 2)  # one too many, and a final line end
    try:
        return raw.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        if len(raw) > schema.MAX_BODY_BYTES:
            raise errors.TooLarge(f"stdin holds more than {schema.MAX_BODY_BYTES} bytes") from error
        raise errors.Invalid(f"stdin is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _connect(settings: config.Settings) -> Client:
    from colony.client import Client

    return Client(settings.url, settings.token)


def _fail(text: str, code: int, caller: Caller) -> int:
    if caller.is_verbose:
        print(show.clean(traceback.format_exc()), end="", file=sys.stderr)
    show.note(text)
    return code


def _hint(error: click.ClickException) -> str:
    missing = error.param.name if isinstance(error, click.MissingParameter) and error.param else None
    return " (a shell takes an unquoted # for a comment: leave it out)" if missing in ("channel", "id") else ""
