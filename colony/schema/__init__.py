"""What travels between the server and its clients: the only definition of the wire."""

from colony.schema.acl import *
from colony.schema.agents import *
from colony.schema.approvals import *
from colony.schema.base import *
from colony.schema.conversation import *
from colony.schema.egress import *
from colony.schema.events import *
from colony.schema.members import *
from colony.schema.metering import *
from colony.schema.secrets import *
from colony.schema.turns import *
from colony.schema.users import *
