"""The rooms import in one direction only."""

import ast

import pytest

# Level of each room: a file may import its own room and rooms of a lower level.
LEVELS = {
  'structs': 0, 'geometry': 0, 'trees': 0, 'contracts': 0, 'compilation': 0, 'fences': 0, 'scene': 0,
  'robots': 0, 'gaussians': 0, 'chunks': 0,
  'mixture': 1, 'gae': 1, 'controller': 1, 'command_mixture': 1, 'reporting': 1,
  'policy': 2, 'data': 2, 'worlds': 2, 'render': 2, 'store': 2,
  'sim': 3,
  'closedloop': 4, 'training': 4, 'navbench': 4, 'openloop': 4, 'deploy': 4,
  'train': 5, 'evaluate': 5, 'watch': 5, 'demos': 5,
}  # fmt: skip
# Modules that may import those of their own level which stand before them here.
ORDER_ON_A_LEVEL = (
  'structs', 'trees', 'geometry', 'scene', 'contracts', 'robots',
  'controller', 'command_mixture',
  'closedloop', 'training', 'navbench',
)  # fmt: skip


def imported_modules(path):
  """Dotted names that a file imports, at any depth of the file."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      yield node.module
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def offences(package_root):
  found = []
  for path in sorted(package_root.rglob('*.py')):
    parts = path.relative_to(package_root).with_suffix('').parts
    room = parts[0]
    if room == '__init__':
      continue
    if room not in LEVELS:
      found.append(f'{path.name}: room {room!r} has no level')
      continue
    for module in imported_modules(path):
      names = module.split('.')
      if names[0] in ('configs', 'experiments', 'tests'):
        found.append(f'{"/".join(parts)} imports {module}: outside the package')
      if names[0] != package_root.name or len(names) < 2 or names[1] == room:
        continue
      target = names[1]
      if target not in LEVELS:
        continue
      same_floor = LEVELS[target] == LEVELS[room]
      is_ordered = target in ORDER_ON_A_LEVEL and room in ORDER_ON_A_LEVEL
      allowed = LEVELS[target] < LEVELS[room] or (
        same_floor and is_ordered and ORDER_ON_A_LEVEL.index(target) < ORDER_ON_A_LEVEL.index(room)
      )
      if not allowed:
        found.append(f'{"/".join(parts)} (level {LEVELS[room]}) imports {module} (level {LEVELS[target]})')
  return found


def test_imports_only_go_down(repo):
  assert offences(repo / 's2e_jax') == []


@pytest.mark.parametrize(
  'source', ['from s2e_jax.data import clips', 'import s2e_jax.train', 'def f():\n  from configs import common']
)
def test_an_upward_or_sideways_import_is_caught(tmp_path, source):
  package = tmp_path / 's2e_jax'
  (package / 'policy').mkdir(parents=True)
  (package / 'policy' / 'policy.py').write_text(source)
  assert len(offences(package)) >= 1


def test_configs_import_only_configs_common(repo):
  for path in (repo / 'configs').rglob('*.py'):
    for module in imported_modules(path):
      assert not module.startswith('s2e_jax'), f'{path} imports {module}'
