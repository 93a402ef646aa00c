"""Shapes by twenty views: cameras, clouds, surfaces and files against spheres, and solids against meshes."""

import itertools

import numpy as np
import pytest

import tf_gan_zoo as zoo
from tf_gan_zoo import shape_files, shapes
from tf_gan_zoo.data import DatasetError, solids
from tf_gan_zoo.shape_files import ShapeFileError


@pytest.fixture(scope="module")
def ball():
    """Depth maps of a ball of radius 0.8, by formula."""
    at = shapes.pixel_coordinates(40)
    squares = at[:, None] ** 2 + at[None] ** 2
    depth = np.where(squares < 0.64, (1 + np.sqrt(np.maximum(0.64 - squares, 0))) / 2, 0)
    return np.repeat(depth[..., None], 20, axis=-1).astype("float32")


CORNERS = np.array(list(itertools.product((-1, 1), repeat=3)), "float32")
CUBE = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6],
        [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]  # fmt: skip


def test_cameras_are_the_corners_of_a_dodecahedron():
    np.testing.assert_allclose(np.linalg.norm(shapes.CAMERAS, axis=1), 1, atol=1e-6)
    cosines = shapes.CAMERAS @ shapes.CAMERAS.T
    nearest = np.sort(cosines, axis=1)[:, -4:-1]  # each corner has three neighbours, all equally far
    np.testing.assert_allclose(nearest, 5**0.5 / 3, atol=1e-6)
    np.testing.assert_allclose(shapes.CAMERAS[:8], np.sign(shapes.CAMERAS[:8]) * 0.577350, atol=1e-6)
    np.testing.assert_allclose(np.abs(shapes.CAMERAS[8]), (0.934172, 0.356822, 0), atol=1e-6)
    axes = shapes.camera_axes()
    products = np.einsum("nij,nkj->nik", axes, axes)
    np.testing.assert_allclose(products, np.tile(np.eye(3), (20, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(axes), 1, atol=1e-6)
    assert (axes[:, 1, 1] > 0).all()  # upright


def test_a_ball_comes_back_from_its_views(ball):
    points, views = shapes.back_project(ball)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.8, atol=1e-5)
    assert (np.einsum("nc,nc->n", points, shapes.CAMERAS[views]) > 0).all()  # on the side that was seen
    cloud = shapes.point_cloud(ball)
    assert len(cloud) > 0.8 * len(points)
    assert shapes.chamfer_distance(cloud, cloud) == 0
    assert shapes.chamfer_distance(cloud, cloud / 2) == pytest.approx(0.4, abs=0.02)
    volume = (shapes.carve(ball, 32) > 0).mean() * 8
    assert volume == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=0.12)  # two votes of twenty carve a little off


def test_points_that_other_views_contradict_are_dropped(ball):
    wrong = ball.copy()
    wrong[..., 0] = np.where(ball[..., 0] > 0, 0.99, 0)  # a disc in front of the ball
    cloud = shapes.point_cloud(wrong)
    assert np.abs(np.linalg.norm(cloud, axis=1) - 0.8).max() < 0.1


def test_surface_is_closed_and_faces_outwards(ball):
    mesh = shapes.mesh(ball, 32)
    edges = np.stack([mesh.faces, np.roll(mesh.faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    assert len(np.unique(edges, axis=0)) == len(edges)  # each edge once in each direction
    assert {tuple(e) for e in edges} == {tuple(e[::-1]) for e in edges}
    assert len(mesh.vertices) - len(edges) / 2 + len(mesh.faces) == 2  # Euler: like a ball
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.8, atol=0.06)
    a, b, c, d = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    outwards = np.einsum("nc,nc->n", np.cross(c - a, d - b), a + b + c + d)
    assert (outwards > 0).mean() > 0.99
    picture = shapes.shaded(mesh, size=48)
    assert picture[0, 0] == 128
    assert picture[14, 14] > picture[34, 34] + 30  # light comes from the upper left


def test_files_hold_what_was_written(tmp_path, ball):
    cloud = shapes.point_cloud(ball)[:50]
    data = shape_files.write_ply(tmp_path / "new/cloud.ply", cloud).read_bytes()
    header, body = data.split(b"end_header\n")
    assert b"format binary_little_endian 1.0\nelement vertex 50\nproperty float x\n" in header
    np.testing.assert_array_equal(np.frombuffer(body, "<f4").reshape(50, 3), cloud)
    text = shape_files.write_ply(tmp_path / "text.ply", cloud, binary=False).read_text()
    np.testing.assert_allclose(np.loadtxt(text.split("end_header\n")[1].splitlines()), cloud, atol=1e-5)
    mesh = shapes.Mesh(CORNERS, np.array(CUBE))
    read = shape_files.read_obj(shape_files.write_obj(tmp_path / "cube.obj", mesh))
    np.testing.assert_array_equal(read.vertices, mesh.vertices)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    data = shape_files.write_ply(tmp_path / "cube.ply", mesh).read_bytes()
    assert b"element face 12\nproperty list uchar int vertex_indices\n" in data
    assert len(data.split(b"end_header\n")[1]) == 8 * 12 + 12 * 13
    with pytest.raises(ShapeFileError, match="expected"):
        shape_files.write_ply(tmp_path / "x.ply", np.zeros((4, 2)))
    (tmp_path / "bad.obj").write_text("v 0 0 0\nf 1 2 3\n")
    with pytest.raises(ShapeFileError, match="1 vertices and 1 faces"):
        shape_files.read_obj(tmp_path / "bad.obj")


# -------------------------------------------------------------------- data


def test_sphere_tracing_and_the_renderer_of_meshes_agree():
    half = (1.0, 0.6, 0.8)
    traced = solids.render(lambda p: solids._box_distance(p, (0, 0, 0), half), np.linalg.norm(half), 28)
    drawn = solids.render_mesh(shapes.Mesh(CORNERS * np.float32(half), np.array(CUBE)), 28)
    both = (traced > 0) & (drawn > 0)
    assert both.sum() > 0.85 * (drawn > 0).sum()  # points on the rim fall into pixels whose centre is outside
    assert np.abs(traced - drawn)[both].mean() < 0.02


def load(name, size=28, **options):
    options = {"image_size": size, "shuffle": False, "value_range": (0, 1), **options}
    return zoo.load_dataset(name, view="shapes", **options)


def test_solids_fill_their_ball():
    batch = next(iter(load("solids", batch_size=14, num_examples=14)))
    depth, labels = batch["depth"].numpy(), batch["labels"].numpy()
    assert depth.shape == (14, 28, 28, 20)
    assert sorted(labels) == sorted([*range(7)] * 2)
    for maps in depth:
        radii = np.linalg.norm(shapes.back_project(maps)[0], axis=1)
        assert 0.75 < radii.max() < 0.93
    assert ((depth > 0).mean(axis=(1, 2)) > 0.05).all()  # visible to every camera


def test_archives_and_meshes_of_the_user(tmp_path):
    depth = np.zeros((20, 28, 28, 20), "uint8")
    depth[:, 5:20, 5:20] = 51
    np.savez(tmp_path / "a.npz", depth=depth, labels=np.arange(20))
    batch = next(iter(load(f"shapes:{tmp_path / 'a.npz'}", batch_size=2, split="test")))
    assert float(batch["depth"].numpy().max()) == pytest.approx(0.2)
    assert batch["labels"].numpy().tolist() == [9, 19]
    for kind in ("cube", "slab"):
        (tmp_path / kind).mkdir()
        scale = np.float32([1, 1, 1 if kind == "cube" else 0.2])
        shape_files.write_obj(tmp_path / kind / "1.obj", shapes.Mesh(CORNERS * scale, np.array(CUBE)))
    batch = next(iter(load(f"meshes:{tmp_path}", batch_size=2, split="all")))
    covered = (batch["depth"].numpy() > 0).mean(axis=(1, 2, 3))
    assert batch["labels"].numpy().tolist() == [0, 1]
    assert covered[0] > covered[1] > 0.1


@pytest.mark.parametrize("arrays, complaint", [
    ({"maps": np.zeros((2, 28, 28, 20))}, "no array 'depth'"),
    ({"depth": np.zeros((2, 28, 28, 3))}, r"depth must be \(num, 28, 28, 20\)"),
    ({"depth": np.full((2, 28, 28, 20), 7.0)}, r"in \[0, 1\]"),
    ({"depth": np.zeros((2, 28, 28, 20)), "labels": np.zeros(3, int)}, "labels must be 2 integers"),
])  # fmt: skip
def test_malformed_archives_are_refused(tmp_path, arrays, complaint):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DatasetError, match=complaint):
        load(f"shapes:{tmp_path / 'a.npz'}")


def test_a_folder_without_meshes_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"no \.obj files"):
        load(f"meshes:{tmp_path}")
