"""The only package that speaks HTTP to a Kubernetes API server.

======================  ==========================================================================
``resource`` ``kinds``  which types there are and under which path
``client``              get, list, watch, create, patch, apply, replace, delete
``wire``                bytes to values: listings, watch events, one bad object at a time (pure)
``exchange``            one call and its answer: limits of time and size, patience
``failures``            answers and library errors to the exceptions of ``dpucluster.errors``
``transport``           one pool of connections: credentials, TLS, fencing, time limits
``connection``          where a server is and how to authenticate, as a value
``config``              the user's own kubeconfig and the Pod's service account (trusted)
``kubeconfig_file``     what stands in kubeconfig files, merged as kubectl merges them
``credential_files``    tokens and certificates that are replaced on disk
``exec_plugin``         credential programs, for the user's own kubeconfig only
``untrusted``           kubeconfigs out of Secrets: inline data or nothing
``strict_yaml``         YAML from strangers, bounded
``resolver``            names to addresses, each in a thread of its own
``tls``                 TLS contexts; private keys never reach a disk
======================  ==========================================================================

Nothing here knows what a controller or a DPU is.
"""
