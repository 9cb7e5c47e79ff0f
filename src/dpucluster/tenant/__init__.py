"""The one owner of connections to tenant clusters.

``diagnosis`` says what a kubeconfig Secret is worth, ``probe`` asks the API server behind it,
``health`` makes a verdict out of single answers, ``connection`` and ``watcher`` follow one
cluster through changes of its Secret, ``pool`` is what the rest of the program talks to.
"""
