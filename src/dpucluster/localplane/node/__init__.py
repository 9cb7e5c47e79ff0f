"""A node whose pods run as processes in namespaces of their own: no container runtime, no root.

A real Node object with a real node's certificate, which the scheduler binds pods to. What a
kubelet promises to control planes and to a keepalived DaemonSet holds here: probes, restarts with
back-off, volumes that follow their ConfigMaps and Secrets, graceful deletion, pod status.

=================  ===============================================================================
``pods``           what is read of a Pod
``probes``         when to probe, and what comes of it (pure)
``podstatus``      what is told of a pod (pure)
``volumes``        which files a volume holds (pure)
``environment``    variables and the references to them (pure)
``images``         image references to file systems
``projection``     volumes on disk
``network``        the node's addresses and those of its pods
``container``      one container: started, probed, started again, ended
``pod``            one pod, from binding to removal
``agent``          the node: registration, heart beats, which pods run
=================  ===============================================================================
"""
