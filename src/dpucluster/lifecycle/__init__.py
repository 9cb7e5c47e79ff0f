"""Phase and health of every DPUCluster, whoever manages it, and the deletion guard.

``phase`` and ``readiness`` decide (pure), ``deletion`` says what a deletion waits for (pure),
``stage`` reads and hands over: the only module here with ``await``.
"""
