"""Leases and wake-ups: what several hosts on one database need of each other."""
