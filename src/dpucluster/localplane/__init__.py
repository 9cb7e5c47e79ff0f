"""A real control plane on this machine: etcd, kube-apiserver, kube-controller-manager.

Gets the binaries, makes the certificates, starts and ends the processes. For ``up``, ``demo``,
``testenv`` and all tests; Linux only.
"""
