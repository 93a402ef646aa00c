"""Depth maps of hands with the user's joints ("hand_depth:FILE.npz" or "hand_depth:FOLDER").

View "hands", for all sources of hands:

    images      depth maps of a cube of 250 mm around the hand, seen along z; in [-1, 1], as far behind the
                cube's centre in eighths of a metre; the background is 1, nothing else is above 0.914
    joints      float32 (batch, num_joints, 3), x to the right, y down, z away from the camera, in
                millimetres from the cube's centre; 0 where they are unknown
    labelled    int32 (batch,), 1 where they are known

An archive has the depth maps in one of two forms, and with them the joints, NaN in frames without:

    np.savez("hands.npz", depth=..., joints=..., camera=[fx, fy, cx, cy], centers=...)

        depth    (num, height, width), millimetres from the camera, 0 where nothing was measured
        joints   (num, num_joints, 3), millimetres in the camera's coordinates
        camera   focal lengths and principal point in pixels
        centers  (num, 3), of the cubes; by default the centre of mass of all that is not 0, where
                 everything but the hand must be 0

    np.savez("hands.npz", crops=..., joints=...)

        crops    (num, side, side), such as `crop` makes of one frame after the other: uint8
        joints   (num, num_joints, 3), millimetres from the cube's centre

Every tenth frame of a file is the test split. As frames of a film resemble each other, rather give a folder
with train.npz and test.npz (or several files whose names begin so).

The paper's data, each of which its authors give away for research under their own terms, to be read there,
and none of which may be passed on:

    NYU    72,757 + 8,252 frames, 36 joints; https://jonathantompson.github.io/NYU_Hand_Pose_Dataset.htm
    MSRA   76,500 frames of 9 people, 21 joints; X. Sun et al., "Cascaded Hand Pose Regression", CVPR 2015,
           https://jimmysuen.github.io; camera [241.42, 241.42, 160, 120]; z changes its sign
    ICVL   22,000 + 1,600 frames, 16 joints; D. Tang et al., "Latent Regression Forest", CVPR 2014,
           https://labicvl.github.io/hand.html; camera as for MSRA
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, in_split, register_source
from tf_gan_zoo.data.unpacking import read_archive
from tf_gan_zoo.paths import expand

CUBE_SIZE = 250.0
"""Side of the cube around a hand, in millimetres."""
VIEWS_OF_HANDS = ("hands", "images")
#: Pixels of the background, and the largest one that is none (0.914): the cube's back is cut off.
BACKGROUND, FARTHEST = 255, 244


@register_source("hand_depth", views=VIEWS_OF_HANDS, needs_path=True)
def read_hand_depth(request: Request) -> Source:
    """Hands in NumPy archives; see above for what they hold.

    Args:
        request: split "train", "test" or "all".
    """
    size = request.image_size or (128, 128)
    parts = [_read(path, size, request.allow_large) for path in _files(request)]
    counts = {joints.shape[1] for _, joints in parts}
    if len(counts) > 1:
        raise DatasetError(f"{request.path}: its files have {sorted(counts)} joints: keep them apart.")
    images, joints = (np.concatenate(arrays) for arrays in zip(*parts))
    if expand(request.path).is_file():
        chosen = in_split(len(images), request.split)
        images, joints = images[chosen], joints[chosen]
    known = np.isfinite(joints).all(axis=(1, 2))
    joints = np.where(known[:, None, None], joints, 0).astype(np.float32)
    return Source({"images": images[..., None]}, {"joints": joints, "labelled": known.astype(np.int32)})


def crop(
    depth: np.ndarray, camera: np.ndarray, center: np.ndarray | None = None,
    size: tuple[int, int] = (128, 128),
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Cuts the cube around a hand out of a frame; what is in front of it or behind it becomes background.

    Args:
        depth: (height, width), millimetres from the camera, 0 where nothing was measured.
        camera: focal lengths and principal point in pixels, [fx, fy, cx, cy].
        center: of the cube in the camera's coordinates, in millimetres; the centre of mass by default.
        size: pixels of the result, (height, width).

    Returns:
        uint8 (height, width), 255 for background; and the centre, (3,), to be subtracted from joints.

    Raises:
        DatasetError: if the frame is empty.
    """
    focal, principal = np.asarray(camera, float).reshape(2, 2)
    center = center_of_mass(depth, camera) if center is None else np.asarray(center, float)
    indices = []
    for axis, side in ((0, size[1]), (1, size[0])):
        places = center[axis] + CUBE_SIZE * ((np.arange(side) + 0.5) / side - 0.5)
        indices.append(np.rint(focal[axis] * places / center[2] + principal[axis]).astype(int))
    columns, rows = indices
    inside = ((rows >= 0) & (rows < depth.shape[0]))[:, None] & (columns >= 0) & (columns < depth.shape[1])
    near = depth[np.clip(rows, 0, depth.shape[0] - 1)][:, np.clip(columns, 0, depth.shape[1] - 1)]
    behind = near.astype(float) - center[2]
    inside &= (near > 0) & (np.abs(behind) <= CUBE_SIZE / 2)
    return pixels_of(np.where(inside, behind, np.inf)), center


def center_of_mass(depth: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Mean of all measured points of a frame, (3,) in millimetres; see `crop`."""
    rows, columns = np.nonzero(depth > 0)
    if not len(rows):
        raise DatasetError("a depth map is empty: all of it is 0. Leave the frame out.")
    fx, fy, cx, cy = np.asarray(camera, float)
    z = depth[rows, columns].astype(float)
    return np.array([((columns - cx) * z / fx).mean(), ((rows - cy) * z / fy).mean(), z.mean()])


def pixels_of(depth: np.ndarray) -> np.ndarray:
    """Depth behind the cube's centre in millimetres -> uint8; infinite depth becomes 255, the background."""
    behind = np.clip(depth, -CUBE_SIZE / 2, CUBE_SIZE / 2) / CUBE_SIZE  # from -1/2 to 1/2
    gray = np.minimum(np.rint((behind + 0.5) * 255), FARTHEST)
    return np.where(np.isfinite(depth), gray, BACKGROUND).astype(np.uint8)


# -------------------------------------------------------------------- files


def _files(request: Request) -> list[Path]:
    path = expand(request.path)
    if path.is_file():
        return [path]
    folder = existing_path(request, "hand_depth")
    prefixes = {"train": ("train",), "test": ("test",), "all": ("train", "test")}.get(request.split)
    if prefixes is None:
        raise DatasetError(f'hand_depth has the splits "train", "test" and "all", got {request.split!r}.')
    files = sorted(p for p in folder.glob("*.npz") if p.name.startswith(prefixes))
    if not files:
        found = sorted(p.name for p in folder.iterdir())[:8]
        raise DatasetError(
            f"{folder}: no file called {' or '.join(f'{p}*.npz' for p in prefixes)}; it holds "
            f"{found or 'nothing'}."
        )
    return files


def _read(path: Path, size: tuple[int, int], allow_large: bool) -> tuple[np.ndarray, np.ndarray]:
    """Depth maps, uint8 (num, height, width), and joints from the cubes' centres, NaN where unknown."""
    arrays = read_archive(path, allow_large)
    form = next((name for name in ("crops", "depth") if name in arrays), None)
    if form is None or "joints" not in arrays:
        raise DatasetError(
            f"{path}: expected joints and crops, or joints, depth and camera; it has {sorted(arrays)}."
        )
    _check_shapes(path, arrays, form)
    images, joints = (_from_crops if form == "crops" else _from_frames)(path, arrays, size)
    _check_units(path, joints)
    return images, joints


def _check_shapes(path: Path, arrays: Mapping[str, np.ndarray], form: str) -> None:
    maps, joints = arrays[form], arrays["joints"]
    if maps.ndim != 3 or joints.ndim != 3 or joints.shape[2] != 3 or len(maps) != len(joints):
        raise DatasetError(
            f"{path}: expected {form} (num, height, width) and joints (num, num_joints, 3), got {maps.shape} "
            f"and {joints.shape}."
        )


def _from_crops(
    path: Path, arrays: Mapping[str, np.ndarray], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    crops = arrays["crops"]
    if crops.dtype != np.uint8:
        raise DatasetError(
            f"{path}: crops must be uint8, 255 for background, from 0 at the cube's front to 244 else, got "
            f"{crops.dtype}. `tf_gan_zoo.data.hand_depth.pixels_of` makes them of millimetres."
        )
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, crops.shape[1:])
    )
    return crops[:, rows][:, :, columns], arrays["joints"].astype(float)


def _from_frames(
    path: Path, arrays: Mapping[str, np.ndarray], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    camera, centers = np.ravel(arrays.get("camera", ())), arrays.get("centers")
    if camera.shape != (4,) or not (camera[:2] > 0).all():
        raise DatasetError(f"{path}: depth needs camera = [fx, fy, cx, cy] in pixels, got {camera.tolist()}.")
    depth = arrays["depth"]
    if centers is not None and centers.shape != (len(depth), 3):
        raise DatasetError(f"{path}: expected centers ({len(depth)}, 3), got {centers.shape}.")
    made = []
    for k, frame in enumerate(depth):
        try:
            made.append(crop(frame, camera, None if centers is None else centers[k], size))
        except DatasetError as error:
            raise DatasetError(f"{path}, frame {k}: {error}") from None
    images, found = (np.stack(values) for values in zip(*made))
    return images, arrays["joints"] - found[:, None]


def _check_units(path: Path, joints: np.ndarray) -> None:
    known = joints[np.isfinite(joints).all(axis=(1, 2))]
    if not len(known):
        return
    extent = float(np.median(np.ptp(known, axis=1).max(axis=1)))
    far = float(np.median(np.abs(known).max(axis=(1, 2))))
    if extent < 20:
        raise DatasetError(f"{path}: hands of {extent:.3g} mm. Are the joints in metres? Give millimetres.")
    if far > CUBE_SIZE:
        raise DatasetError(
            f"{path}: joints lie {far:.0f} mm from the cubes' centres. They must be in the coordinates of "
            "the depth maps: the camera's for depth, the cube's for crops (x right, y down, z away)."
        )
