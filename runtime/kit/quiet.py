"""The log of a runtime that only lives for one command says nothing but warnings, on the error output."""

import logging
import sys

import structlog


def quiet() -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
