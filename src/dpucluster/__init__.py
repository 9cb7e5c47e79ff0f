"""Kubernetes control planes for DPUs: the DPUCluster system of NVIDIA DPF, in Python.

Start reading at ``docs/architecture.md``; each package's docstring says what belongs in it.
"""

__version__ = "0.1.0"
