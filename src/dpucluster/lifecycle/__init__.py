"""Phase and health of every DPUCluster, whoever manages it, and the deletion guard.

``phase`` and ``readiness`` decide (pure), ``deletion`` says what a deletion waits for (pure),
``stage`` and ``census`` read and hand over: the only modules here with ``await``.
"""
