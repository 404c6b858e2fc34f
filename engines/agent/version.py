"""The version this engine reports."""

VERSION = "v0.1.0"
