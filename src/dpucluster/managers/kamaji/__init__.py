"""The Kamaji manager: a control plane made on demand, behind a virtual IP.

A DPUCluster of ``type: kamaji`` becomes a Service, a Kamaji ``TenantControlPlane`` and, where it
asks for one, a virtual IP held by keepalived (a ConfigMap and a DaemonSet).

Read in this order: ``observation`` (everything a decision rests on), ``plan`` (what follows from
the spec and the nodes), ``objects`` and ``keepalived`` (what is made), ``verdict`` (what is said),
``manager`` (the only module with ``await``). All but the last are pure.
"""
