"""What the forker imports before it forks: all that DVC would import in each fork anew."""

from __future__ import annotations

import contextlib
import importlib

# what DVC imports late, in the midst of reading a graph or reproducing a stage
MODULES = (
    "configobj",
    "dulwich.index",
    "dulwich.repo",
    "dulwich.worktree",
    "dvc.cachemgr",
    "dvc.data_cloud",
    "dvc.dvcfile",
    "dvc.lock",
    "dvc.output",
    "dvc.repo",
    "dvc.repo.artifacts",
    "dvc.repo.datasets",
    "dvc.repo.graph",
    "dvc.repo.index",
    "dvc.repo.metrics",
    "dvc.repo.params",
    "dvc.repo.plots",
    "dvc.repo.reproduce",
    "dvc.repo.stage",
    "dvc.repo.status",
    "dvc.repo.trie",
    "dvc.rwlock",
    "dvc.scm",
    "dvc.stage.run",
    "dvc.stage.utils",
    "dvc.utils.serialize",
    "dvc.utils.strictyaml",
    "dvc_data.hashfile.db.local",
    "dvc_data.hashfile.status",
    "fsspec.implementations.memory",
    "networkx",
    "platformdirs",
    "pipeline.graph",
    "pipeline.lock_entries",
    "pipeline.once",
    "pipeline.reproduce",
    "pyparsing",
    "ruamel.yaml",
    "scmrepo.git",
)


def load() -> None:
    """Import them; a fork has them for nothing."""
    for name in MODULES:
        # another version of DVC may lack a module, or import it late
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
