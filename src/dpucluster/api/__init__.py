"""The kinds of this system as frozen values, and every name that crosses a process border.

Pure: nothing here reads, writes, logs or looks at a clock. The YAML in ``deploy/crds`` is the
source of truth for the two kinds; a parity test holds these structs to it.
"""
