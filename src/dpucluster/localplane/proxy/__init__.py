"""Services of a small data centre: cluster IPs, node ports, load balancers, and the way in.

What kube-proxy, a cloud's load balancer and a cluster's DNS do, by forwarding connections in user
space: no rules in the kernel, no privilege, and every decision can be read in one table.

=================  ===============================================================================
``services``       what is read of Services and EndpointSlices
``routes``         from these to the addresses to listen on, and where each leads (pure)
``forwarder``      listens, and carries bytes
``follower``       keeps a forwarder at what the API says
``hello``          the server name in the first bytes of a TLS connection (pure)
``plan``           what the gateway is told
``gateway``        the process at the world's edge: the way in from outside, load balancers, names
=================  ===============================================================================
"""
