"""Composition and commands: the only package that knows everything, and no logic of its own.

``main`` is the entry point; a module here is imported when its command runs, so that ``--help``
stays fast.
"""
