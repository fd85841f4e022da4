"""Where compiled programs are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def use_compilation_cache() -> None:
  """Keeps compiled programs in the user's cache folder, unless the environment says where ('' for nowhere).

  The folder is $XDG_CACHE_HOME/s2e_jax/xla (default ~/.cache); JAX_COMPILATION_CACHE_DIR names another one.
  Programs that compile in less than half a second are not worth a file.
  """
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    root = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    jax.config.update('jax_compilation_cache_dir', str(root / 's2e_jax' / 'xla'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
