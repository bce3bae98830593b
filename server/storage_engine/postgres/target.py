"""Where the server is: a URL taken apart, and how it is shown without its password."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from portway.rpc.errors import InvalidInput, Reason

# What is not said in the URL. A peer that vanished is noticed in ten seconds, on both sides.
_DEFAULTS: dict[str, str] = {
    "connect_timeout": "3",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "2",
    "tcp_user_timeout": "10000",
    "client_encoding": "UTF8",
    "target_session_attrs": "read-write",
}


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """`conninfo` holds the password and is given to the driver only; `shown` is for people and logs."""

    conninfo: str
    shown: str

    def __repr__(self) -> str:
        return f"Target({self.shown})"

    def named(self, application: str) -> str:
        """The connection string, with the name that the server's own lists show."""
        return make_conninfo(self.conninfo, application_name=application)


def target_of(url: str) -> Target:
    """Raises InvalidInput for a URL that cannot be understood; what it says never holds the password."""
    try:
        address = urlsplit(url)
        given = conninfo_to_dict(url)
        # Where it is cut must not depend on who reads it: a part of the password could become a host or a database.
        clear = (address.netloc + address.path).count("@") == address.netloc.count("@") <= 1
        clear = clear and not address.fragment and str(given.get("port") or "0").replace(",", "").isdigit()
    except (ProgrammingError, ValueError):
        clear = False
    if not clear:
        raise InvalidInput(
            "The database URL cannot be understood. It has the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE; "
            "every @ : / % # ? in user name and password is written percent-encoded (@ is %40).",
            reason=Reason.NOT_CONFIGURED,
        ) from None
    settings = {**_DEFAULTS, **{name: str(value) for name, value in given.items() if value is not None}}
    user = f"{settings['user']}@" if settings.get("user") else ""
    port = f":{settings['port']}" if settings.get("port") else ""
    host = settings.get("host") or settings.get("hostaddr") or "localhost"
    shown = f"postgresql://{user}{host}{port}/{settings.get('dbname', '')}"
    return Target(make_conninfo("", **settings), shown)
