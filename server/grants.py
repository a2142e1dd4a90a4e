"""What was passed on goes with what it was passed on from."""

from __future__ import annotations

from sqlalchemy import Connection

from colony.schema import AclRow
from server.identity import Caller, administrators
from server.judgement import DEFAULTS, carries
from server.models import acl
from server.rights import Law


def take_back(connection: Connection) -> None:
    """Drop the rows of who has nothing any more to pass on, and those that were passed on from these.

    What administrators have set stays, and what somebody says about their own agents. To be called whenever somebody may have lost a row.
    """
    givers = {name: Caller(id, name, kind) for id, name, kind in acl.givers(connection, administrators())}
    stored, roles = acl.rows(connection), acl.roles(connection)
    in_doubt = [row for row in stored if (giver := givers.get(row.granted_by or "")) and _is_passed_on(connection, giver, row)]
    kept = [*DEFAULTS, *(row for row in stored if row not in in_doubt)]
    # From what is certain onwards: two who have passed a row on to each other must not keep it by that alone.
    while found := [row for row in in_doubt if _is_carried(row, Law(tuple(kept), roles).of(givers[str(row.granted_by)]))]:
        kept += found
        in_doubt = [row for row in in_doubt if row not in found]
    for row in in_doubt:
        acl.drop(connection, row)


def _is_passed_on(connection: Connection, giver: Caller, row: AclRow) -> bool:
    """Whether it took a row with the grant option to set this one."""
    is_about_mine = row.scope.startswith("agent:") and acl.owns(connection, giver.id, row.scope.removeprefix("agent:"))
    is_mine = acl.owns(connection, giver.id, row.principal) and not row.grant_option
    return row.effect == "allow" and not (is_about_mine or is_mine)


def _is_carried(row: AclRow, theirs: tuple[AclRow, ...]) -> bool:
    return any(each.effect == "allow" and each.grant_option and carries(each, row) for each in theirs)
