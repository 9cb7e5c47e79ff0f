"""Cluster managers, plug-ins of ``dpucluster.sdk`` on the same terms as a third party's."""
