"""What both ends of a connection agree on."""

# The library refuses a message over its own limit without details and, in a stream, only after the fact. Ours
# (`Limits.message_bytes`) is met first.
_HARD_LIMIT_FACTOR = 4
_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:", "ipv4:127.", "ipv6:[::1]:", "dns:///localhost:")


def is_loopback(address: str) -> bool:
    """Whether what is sent to `address` stays on this machine, going by its text alone."""
    return address.startswith(_LOOPBACK)


def common_options(message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", message_bytes * _HARD_LIMIT_FACTOR),
        ("grpc.max_send_message_length", message_bytes * _HARD_LIMIT_FACTOR),
        # A peer that vanished is noticed within ten seconds, also on a stream on which nobody has anything to say.
        ("grpc.keepalive_time_ms", 4_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        # What in fact ends such a connection: the library counts the answer to every ping by this time.
        ("grpc.http2.ping_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
