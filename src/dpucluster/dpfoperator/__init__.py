"""DPFOperatorConfig: which components run.

``components`` is the one table of components, ``decide`` the pure part (which are on, what the
conditions say), ``reconcile`` the only module that reads and writes.
"""
