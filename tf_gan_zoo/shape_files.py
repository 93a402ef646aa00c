"""Point clouds and surfaces as files: PLY, in text or binary, and OBJ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tf_gan_zoo import files
from tf_gan_zoo.paths import expand
from tf_gan_zoo.shapes import Mesh


class ShapeFileError(ValueError):
    """A file that holds no shape, or a shape that no file can hold; the message says what to do."""


def write_ply(path: str | Path, points: np.ndarray | Mesh, *, binary: bool = True) -> Path:
    """Writes a point cloud (num, 3) or a surface as PLY; folders are made.

    Args:
        path: the file.
        points: coordinates, or a `Mesh`.
        binary: little-endian numbers instead of text.

    Raises:
        ShapeFileError: if the points are not (num, 3).
    """
    shape = points if isinstance(points, Mesh) else Mesh(np.asarray(points), np.zeros((0, 3), int))
    vertices, faces = _checked(shape)
    form = "binary_little_endian" if binary else "ascii"
    header = [
        "ply", f"format {form} 1.0", f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
    ]  # fmt: skip
    if len(faces):
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    body = _binary_body(vertices, faces) if binary else _text_body(vertices, faces).encode()
    files.write_bytes(path, "\n".join([*header, "end_header", ""]).encode() + body)
    return expand(path)


def write_obj(path: str | Path, shape: Mesh) -> Path:
    """Writes a surface as Wavefront OBJ; folders are made.

    Raises:
        ShapeFileError: if the vertices are not (num, 3).
    """
    vertices, faces = _checked(shape)
    lines = [f"v {x:.6g} {y:.6g} {z:.6g}" for x, y, z in vertices]
    lines += ["f " + " ".join(str(k + 1) for k in face) for face in faces]
    files.write_text(path, "\n".join(lines) + "\n")
    return expand(path)


def read_obj(path: str | Path) -> Mesh:
    """Vertices and faces of a Wavefront OBJ file, polygons cut into triangles; all else is left out.

    Raises:
        ShapeFileError: if the file is no OBJ with faces.
    """
    vertices, faces = [], []
    try:
        for kind, values in _obj_lines(expand(path)):
            if kind == "v":
                vertices.append([float(value) for value in values[:3]])
            else:
                corners = [int(value.partition("/")[0]) for value in values]
                corners = [k - 1 if k > 0 else len(vertices) + k for k in corners]
                faces += [(corners[0], *pair) for pair in zip(corners[1:], corners[2:])]
    except (OSError, ValueError) as error:
        raise ShapeFileError(f"{path} cannot be read as OBJ: {error}.") from error
    shape = Mesh(np.array(vertices, "float32").reshape(-1, 3), np.array(faces, int).reshape(-1, 3))
    if not len(shape.faces) or not 0 <= shape.faces.min() <= shape.faces.max() < len(shape.vertices):
        raise ShapeFileError(f"{path} has {len(vertices)} vertices and {len(faces)} faces that fit them.")
    return shape


def _obj_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            kind, *values = line.split() or [""]
            if kind in ("v", "f"):
                yield kind, values


def _checked(shape: Mesh) -> tuple[np.ndarray, np.ndarray]:
    vertices = np.asarray(shape.vertices, "<f4")
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ShapeFileError(f"points: expected (num, 3), x, y and z, got shape {vertices.shape}.")
    return vertices, np.asarray(shape.faces, "<i4")


def _binary_body(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    records = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", faces.shape[1:])])
    records["count"], records["corners"] = faces.shape[1], faces
    return vertices.tobytes() + records.tobytes()


def _text_body(vertices: np.ndarray, faces: np.ndarray) -> str:
    lines = [f"{x:.6g} {y:.6g} {z:.6g}\n" for x, y, z in vertices]
    lines += [f"{len(face)} " + " ".join(map(str, face)) + "\n" for face in faces]
    return "".join(lines)
