"""The real Kamaji on this machine: a management plane, nodes, and tenants that run as processes.

=================  ===============================================================================
``stack``          everything together, as a context manager
``addresses``      the plan of the network (pure)
``gate``           the way in from outside, seen from outside
``datastore``      the etcd that tenants store in
``manager``        Kamaji's controllers
``nodes``          the nodes' processes
``objects``        what is applied: RBAC, DataStore, Nodes (pure)
``access``         kubeconfigs of tenants, for use from outside
``keepalived``     finds keepalived, or gets it
=================  ===============================================================================
"""
