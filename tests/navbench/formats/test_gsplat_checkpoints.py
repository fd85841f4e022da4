"""gsplat checkpoints, `.pt` without PyTorch and `.npz`: values, and files that must not be trusted."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from s2e_jax.navbench.formats.read import read_gaussians

NUM = 4


def splats(degree=1, num=NUM):
  rng = np.random.default_rng(0)
  values = {
    'means': rng.normal(size=(num, 3)),
    'scales': rng.uniform(-5, 0, (num, 3)),
    'quats': rng.normal(size=(num, 4)),
    'opacities': rng.normal(size=num),
    'sh0': rng.normal(size=(num, 1, 3)),
    'shN': rng.normal(size=(num, (degree + 1) ** 2 - 1, 3)),
  }
  return {name: array.astype('<f4') for name, array in values.items()}


def assert_splats(found, given, atol=1e-6):
  np.testing.assert_allclose(found.mean, given['means'], atol=atol)
  np.testing.assert_allclose(found.scale, np.exp(given['scales']), atol=atol, rtol=1e-5)
  length = np.linalg.norm(given['quats'], axis=1, keepdims=True)
  np.testing.assert_allclose(found.rotation, given['quats'] / length, atol=atol)
  np.testing.assert_allclose(found.opacity, 1 / (1 + np.exp(-given['opacities'].reshape(-1))), atol=atol)
  np.testing.assert_allclose(found.sh[:, :1], given['sh0'], atol=atol)
  np.testing.assert_allclose(found.sh[:, 1:], given['shN'], atol=atol)


def text(value):
  return b'X' + struct.pack('<I', len(value)) + value.encode()


def number(value):
  return b'J' + struct.pack('<i', value)


def tuple_of(*items):
  return b'(' + b''.join(items) + b't'


def call(name, *arguments):
  module, _, function = name.rpartition('.')
  return f'c{module}\n{function}\n'.encode() + tuple_of(*arguments) + b'R'


def dict_of(**items):
  return b'}(' + b''.join(text(k) + v for k, v in items.items()) + b'u'


def tensor(key, shape, stride=None, offset=0, storage='FloatStorage'):
  """What torch.save writes for a tensor, by hand."""
  strides = stride or [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
  pid = tuple_of(
    text('storage'),
    f'ctorch\n{storage}\n'.encode(),
    text(key),
    text('cuda:0'),
    number(min(2**30, int(np.prod(shape)))),
  )
  ordered = call('collections.OrderedDict')
  rebuilt = (pid + b'Q', number(offset), tuple_of(*map(number, shape)), tuple_of(*map(number, strides)))
  return call('torch._utils._rebuild_tensor_v2', *rebuilt, b'\x89', ordered)


def torch_bytes(content, storages, compression=zipfile.ZIP_STORED, byteorder=b'little'):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', compression) as archive:
    archive.writestr('ckpt/data.pkl', b'\x80\x02' + content + b'.')
    archive.writestr('ckpt/byteorder', byteorder)
    for key, data in storages.items():
      archive.writestr(f'ckpt/data/{key}', data)
  return buffer.getvalue()


def checkpoint(given, **options):
  """As gsplat saves it: {'step': 7, 'splats': an OrderedDict of tensors with an attribute}."""
  items = b''.join(text(name) + tensor(str(i), array.shape) for i, (name, array) in enumerate(given.items()))
  state_dict = call('collections.OrderedDict') + b'(' + items + b'u' + dict_of(_metadata=b'}') + b'b'
  storages = {str(i): array.tobytes() for i, array in enumerate(given.values())}
  return torch_bytes(dict_of(step=number(7), splats=state_dict), storages, **options)


@pytest.mark.parametrize('degree', [0, 1, 3])
def test_a_torch_archive_is_read_without_torch(tmp_path, degree):
  path = tmp_path / 'ckpt.pt'
  path.write_bytes(checkpoint(splats(degree)))
  found, report = read_gaussians(path)
  assert (report.format, report.version, report.sh_degree) == ('gsplat checkpoint', 'pt', degree)
  assert_splats(found, splats(degree))


def test_strides_offsets_and_other_number_types_are_followed(tmp_path):
  path = tmp_path / 'ckpt.pt'
  given = splats(0)
  storages = {str(i): array.tobytes() for i, array in enumerate(given.values())}
  items = {name: tensor(str(i), array.shape) for i, (name, array) in enumerate(given.items())}
  # means transposed behind two other values, scales as doubles, quats as bfloat16, opacities as halves
  storages['0'] = b'\1' * 8 + given['means'].T.tobytes()
  items['means'] = tensor('0', (NUM, 3), (1, NUM), 2)
  storages['1'], items['scales'] = (
    given['scales'].astype('<f8').tobytes(),
    tensor('1', (NUM, 3), storage='DoubleStorage'),
  )
  bfloat = (given['quats'].view('<u4') >> 16).astype('<u2')
  storages['2'], items['quats'] = bfloat.tobytes(), tensor('2', (NUM, 4), storage='BFloat16Storage')
  storages['3'], items['opacities'] = (
    given['opacities'].astype('<f2').tobytes(),
    tensor('3', (NUM,), storage='HalfStorage'),
  )
  path.write_bytes(torch_bytes(dict_of(**items), storages))  # no 'splats' around them
  found, _ = read_gaussians(path)
  given['opacities'] = given['opacities'].astype('<f2').astype('f4')
  given['quats'] = (bfloat.astype('<u4') << 16).view('<f4')
  assert_splats(found, given)


def test_parameters_are_read_like_tensors(tmp_path):
  path = tmp_path / 'ckpt.pt'
  given = splats()
  items = {
    name: call('torch._utils._rebuild_parameter', tensor(str(i), array.shape), b'\x88', b'}')
    for i, (name, array) in enumerate(given.items())
  }
  storages = {str(i): array.tobytes() for i, array in enumerate(given.values())}
  path.write_bytes(torch_bytes(dict_of(splats=dict_of(**items)), storages))
  assert_splats(read_gaussians(path)[0], given)


class Evil:
  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize(
  'name', ['os.system', 'builtins.eval', 'torch.load', 'numpy.load', 'collections.namedtuple']
)
def test_a_pickle_that_asks_for_anything_else_is_refused_and_nothing_runs(tmp_path, name):
  path = tmp_path / 'ckpt.pt'
  harm = tmp_path / 'harm'
  path.write_bytes(torch_bytes(call(name, text(f'touch {harm}')), {}))
  with pytest.raises(ValueError, match=f'asks for {name}.*nothing was run'):
    read_gaussians(path)
  assert not harm.exists()


def test_a_real_malicious_pickle_is_refused(tmp_path):
  path = tmp_path / 'ckpt.pt'
  harm = tmp_path / 'harm'
  harmful = pickle.dumps({'splats': Evil(open, str(harm), 'w')}, protocol=4)
  path.write_bytes(torch_bytes(harmful[2:-1], {}))
  with pytest.raises(ValueError, match='nothing was run'):
    read_gaussians(path)
  assert not harm.exists()
  path.write_bytes(harmful)
  with pytest.raises(ValueError, match='bare pickle'):
    read_gaussians(path)


def one_tensor(means, storage=b'\0' * 48):
  given = splats(0)
  items = {name: tensor(str(i), array.shape) for i, (name, array) in enumerate(given.items())}
  storages = {str(i): array.tobytes() for i, array in enumerate(given.values())} | {'0': storage}
  return torch_bytes(dict_of(**(items | {'means': means})), storages)


@pytest.mark.parametrize(
  'data, message',
  [
    (one_tensor(tensor('0', (NUM, 3)), b'\0' * 47), 'a whole storage'),
    (one_tensor(tensor('0', (NUM, 3), (0, 0)), b'\0' * 4), 'a whole storage'),
    (one_tensor(tensor('0', (NUM, 3), (-3, 1), 9)), 'a whole storage'),
    (one_tensor(tensor('0', (NUM, 3), (3, 1), 1)), 'a whole storage'),
    (one_tensor(tensor('9', (NUM, 3))), "no 'data/9'"),
    (one_tensor(tensor('../0', (NUM, 3))), 'damaged pickle'),
    (one_tensor(tensor('0', (NUM, 2))), 'arrays of shapes'),
    (one_tensor(tensor('0', (2**29, 3))), 'max_gaussians'),
    (one_tensor(text('means')), 'without means'),
    (checkpoint(splats(), compression=zipfile.ZIP_DEFLATED), 'compression'),
    (checkpoint(splats(), byteorder=b'big'), 'big-endian'),
    (checkpoint({k: v for k, v in splats().items() if k != 'sh0'}), 'without sh0'),
    (checkpoint(splats() | {'shN': np.zeros((NUM, 5, 3), '<f4')}), '15 values'),
    (torch_bytes(text('hello'), {}), "a dict with 'splats'"),
    (torch_bytes(b'\xff\xff', {}), 'damaged pickle'),
    (checkpoint(splats())[:-30], 'damaged zip'),
  ],
)
def test_bad_archives_are_refused(tmp_path, data, message):
  path = tmp_path / 'ckpt.pt'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message):
    read_gaussians(path)


def test_one_of_several_ranks_is_noted(tmp_path):
  for rank in (0, 1):
    (tmp_path / f'ckpt_29999_rank{rank}.pt').write_bytes(checkpoint(splats()))
  assert 'one of 2 checkpoints' in read_gaussians(tmp_path / 'ckpt_29999_rank0.pt')[1].notes[0]


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_an_npz_holds_the_same_arrays(tmp_path, save):
  path = tmp_path / 'scene.npz'
  given = splats(2) | {'opacities': splats()['opacities'][:, None]}
  save(path, **given, config=np.array({'not': 'read'}, object))
  found, report = read_gaussians(path)
  assert (report.format, report.version, report.sh_degree) == ('gsplat checkpoint', 'npz', 2)
  assert_splats(found, given)


def npz_bytes(**arrays):
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  return buffer.getvalue()


def npz_with_shape(stated):
  """The header of the means states another shape than they have."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as archive:
    for name, array in splats().items():
      data = io.BytesIO()
      np.save(data, array)
      whole = data.getvalue()
      assert name != 'means' or b'(4, 3), }' + b' ' * 7 in whole
      archive.writestr(f'{name}.npy', whole.replace(b'(4, 3), }' + b' ' * 7, stated) if name == 'means' else whole)
  return buffer.getvalue()


@pytest.mark.parametrize(
  'data, message',
  [
    (npz_bytes(means3d=np.zeros((3, 3)), colors=np.zeros((3, 3))), 'without means, scales'),
    (npz_bytes(**(splats() | {'means': np.array([1, None], object)})), 'pickled objects'),
    (npz_bytes(**(splats() | {'quats': np.zeros((NUM, 3))})), 'arrays of shapes'),
    (npz_bytes(**(splats() | {'quats': np.full((NUM, 4), 'a')})), 'numbers'),
    (npz_bytes(**splats(num=0)), '0 gaussians'),
    (npz_with_shape(b'(99999999, 3), }'), 'bad array .* are stated'),
    (npz_with_shape(b'(99999999, 3    '), 'bad array'),
    (npz_bytes(**splats())[:-40], 'damaged zip'),
  ],
)
def test_bad_npz_files_are_refused(tmp_path, data, message):
  path = tmp_path / 'scene.npz'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message):
    read_gaussians(path)


def test_the_real_garden_points_are_no_gaussians(shared_data):
  with pytest.raises(ValueError, match=r"'means3d'.* without means, scales"):
    read_gaussians(shared_data / 'splats/gsplat_test_garden/test_garden.npz')
