"""Spans: what took how long within a trace, sent to a collector. Off unless the settings name one."""
