"""Every kind of picture a user can have becomes upright uint8 RGB, and every broken one a single clear line."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.image import MAX_PIXELS, read_image, resize
from segcli.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # what Pillow says of malformed tags

RNG = np.random.default_rng(0)
RAMP = np.stack(np.meshgrid(np.arange(0, 240, 12), np.arange(0, 150, 10)), axis=-1).sum(axis=-1).astype(np.uint8)
PHOTO = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)  # [15, 20, 3]


def encoded(image: Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def png16(values: np.ndarray, colour: int) -> bytes:
    """A 16-bit PNG, which Pillow writes only in grey; colour 0 grey, 2 RGB, 4 grey + alpha, 6 RGBA."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG", "PPM"])
def test_formats(form: str) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98, "subsampling": 0}}.get(form, {})
    image = read_image(encoded(PHOTO, form, **options))
    assert (image.dtype, image.shape) == (np.uint8, PHOTO.shape)
    assert image.flags.writeable
    loss = {"JPEG": 12, "GIF": 48}.get(form, 0)
    assert np.abs(image.astype(int) - PHOTO).max() <= loss


def test_grey_one_bit_and_palette() -> None:
    np.testing.assert_array_equal(read_image(encoded(RAMP)), np.stack([RAMP] * 3, axis=-1))
    bits = RAMP > 100
    np.testing.assert_array_equal(read_image(encoded(bits))[..., 0], bits * 255)
    palette = Image.fromarray(RAMP // 64, "L").convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 1, 2, 3])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9], [1, 2, 3]])
    np.testing.assert_array_equal(read_image(encoded(palette)), colours[RAMP // 64])


def test_transparency_lies_over_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    assert read_image(encoded(rgba)).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]
    grey_alpha = np.array([[[40, 255], [40, 0]]], dtype=np.uint8)
    assert read_image(encoded(Image.fromarray(grey_alpha)))[0, :, 0].tolist() == [40, 255]
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "L").convert("P")
    palette.putpalette([200, 0, 0, 0, 200, 0])
    assert read_image(encoded(palette, transparency=0)).tolist() == [[[255, 255, 255], [0, 200, 0]]]


def test_cmyk_jpeg_keeps_its_colours() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red_again = read_image(encoded(red, "JPEG", quality=95))[8, 8]
    assert np.abs(red_again.astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_pictures_are_scaled_by_the_depth_in_use(bits: int) -> None:
    values = RNG.integers(0, 1 << bits, (300, 7, 3))
    values[0, 0] = (1 << bits) - 1
    expected = (values >> (bits - 8)).astype(np.uint8)
    np.testing.assert_array_equal(read_image(png16(values, 2)), expected)
    opaque = np.concatenate([values, np.full((300, 7, 1), 65535)], axis=2)
    np.testing.assert_array_equal(read_image(png16(opaque, 6)), expected)
    grey = np.stack([values[..., 0], np.full(values.shape[:2], 65535)], axis=-1)
    np.testing.assert_array_equal(read_image(png16(grey, 4))[..., 0], expected[..., 0])
    for data in (png16(values[..., 0], 0), encoded(values[..., 0].astype(np.uint16), "TIFF")):
        np.testing.assert_array_equal(read_image(data)[..., 1], expected[..., 0])


def test_a_deep_colour_tiff_is_scaled_too() -> None:
    cv2 = pytest.importorskip("cv2")
    values = RNG.integers(0, 4096, (30, 7, 3)).astype(np.uint16)
    values[0, 0] = 4095
    for compression in (1, 5, 8):  # none, LZW, deflate
        _, data = cv2.imencode(".tiff", values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])
        np.testing.assert_array_equal(read_image(data.tobytes()), values >> 4)


def test_float_pictures() -> None:
    fractions = np.array([[0.0, 0.5, 1.0, np.nan, -3.0]], dtype=np.float32)
    assert read_image(encoded(fractions, "TIFF"))[0, :, 0].tolist() == [0, 128, 255, 0, 0]
    counts = np.array([[0, 1023.0, 512.0]], dtype=np.float32)
    assert read_image(encoded(counts, "TIFF"))[0, :, 0].tolist() == [0, 255, 128]


@pytest.mark.parametrize(("most", "hot"), [(1, 1), (1.01, 1), (1, 90), (9, 9)])
def test_floats_of_any_small_range_are_seen(most: float, hot: float) -> None:
    """Resizing leaves fractions a little above 1, a hot pixel leaves one far above, and logarithms end at 9."""
    ramp = np.linspace(0, most, 10_000, dtype=np.float32).reshape(100, 100)
    ramp[50, 50] = hot
    found = read_image(encoded(ramp, "TIFF"))[..., 0]
    assert (found[0, 0], found[-1, -1]) == (0, 255)
    assert abs(int(found[40, 0]) - 0.4 * 255) <= 2


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(form: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :8] = 255  # a white corner tells all eight apart, with the sides
    upright[8:, :8, 0] = 200
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(form, {})
    image = read_image(encoded(np.ascontiguousarray(stored), form, exif=exif, **options))
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() < 12


def test_a_malformed_exif_block_is_ignored() -> None:
    data = encoded(PHOTO, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(data).shape == PHOTO.shape


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    pixels = RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
    np.testing.assert_array_equal(read_image(encoded(pixels)), pixels)


def test_sources_and_names(tmp_path: Path) -> None:
    path = tmp_path / "-naïve photo 日本.jpg"
    path.write_bytes(encoded(PHOTO))  # a PNG by content: the extension decides nothing
    with open(path, "rb") as stream:
        for source in (path, str(path), path.read_bytes(), stream):
            np.testing.assert_array_equal(read_image(source), PHOTO)
    with pytest.raises(InputError, match=r"^stdin: empty"):
        read_image(b"", name="stdin")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])
def test_truncated_files_are_refused(form: str, tmp_path: Path) -> None:
    noise = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    path = tmp_path / "cut.jpg"
    data = encoded(noise, form)
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(InputError, match=r"cut\.jpg: .*(copy|export|convert)"):
        read_image(path)


def test_what_is_no_picture_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("hello")
    for name, reason in (
        ("empty.png", r"empty \(0 bytes\); copy"),
        ("text.jpg", "not a picture.*convert"),
        ("gone.jpg", "no such file"),
        (".", "a folder"),
    ):
        with pytest.raises(InputError, match=reason):
            read_image(tmp_path / name)


def test_noise_in_any_format_is_an_input_error_and_nothing_else() -> None:
    for form in ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM"):
        data = np.frombuffer(encoded(PHOTO, form), dtype=np.uint8)
        for seed in range(60):
            rng = np.random.default_rng(seed)
            broken = data.copy()
            places = rng.integers(0, len(data), 6)
            broken[places] = rng.integers(0, 256, 6)
            try:
                image = read_image(broken.tobytes(), max_pixels=10**6)
            except InputError:
                continue
            assert image.dtype == np.uint8
            assert image.shape[2] == 3


def test_huge_headers_are_refused_before_the_pixels() -> None:
    small = png16(np.zeros((1, 1), int), 0)
    header = b"IHDR" + struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    bomb = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    with pytest.raises(InputError, match=r"30000×30000 = 900 megapixels, above .* 250; .*--max-pixels 900000000"):
        read_image(bomb, max_pixels=MAX_PIXELS)
    with pytest.raises(InputError, match=r"above .* 250; cut it into tiles$"):
        read_image(bomb)
    with pytest.raises(InputError, match="damaged"):
        read_image(bomb[:60], max_pixels=1 << 40)
    with pytest.raises(InputError, match="15 = 0 megapixels"):
        read_image(encoded(PHOTO), max_pixels=299)
    assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3  # Pillow's own setting is left as it was


def test_strips_without_end_are_refused() -> None:
    small = png16(np.zeros((1, 1), int), 0)
    header = b"IHDR" + struct.pack(">IIBBBBB", 1, 200_000_000, 8, 2, 0, 0, 0)
    with pytest.raises(InputError, match="above the limit of 1,000,000 for a side"):
        read_image(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:])


@pytest.mark.parametrize("ending", ["TIFF", "WEBP"])
def test_pillows_own_limit_does_not_count_while_it_decodes(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = io.BytesIO()
    Image.fromarray(PHOTO).save(data, ending)
    assert read_image(data.getvalue()).shape == PHOTO.shape
    assert Image.MAX_IMAGE_PIXELS == 10


def test_postscript_is_not_run() -> None:
    with pytest.raises(InputError, match="not a picture in a known format"):
        read_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{} loop\n")


def test_resize_is_pillows_antialiased_bilinear() -> None:
    photo = RNG.integers(0, 256, (301, 200, 3)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(photo).resize((50, 60), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize(photo, (60, 50)), expected)
    assert resize(photo, (301, 200)) is photo


def _deep(values: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(buffer, "PNG")
    return read_image(buffer.getvalue())[..., 0]


def test_a_hot_pixel_does_not_decide_the_depth() -> None:
    """One of 6,000 pixels at the largest value: the 12-bit picture is as it is without."""
    clean = np.linspace(0, 4000, 6000).reshape(60, 100)
    hot = clean.copy()
    hot[30, 50] = 65_535
    one, other = _deep(clean), _deep(hot)
    one[30, 50] = other[30, 50] = 0
    assert np.array_equal(one, other)


def test_a_small_part_of_the_depth_is_stretched() -> None:
    """Thermal data in 1.4 % of 16 bits has all its grey levels, in the order of its values."""
    thermal = np.linspace(51_241, 52_181, 6000).reshape(60, 100)
    seen = _deep(thermal)
    assert len(np.unique(seen)) == 256
    assert (np.diff(seen.ravel().astype(int)) >= 0).all()


def test_planes_of_16_bits_are_pixels() -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = (np.random.default_rng(0).random((40, 50, 3)) * 65_535).astype(np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.moveaxis(pixels, -1, 0), planarconfig="separate", photometric="rgb")
    assert np.abs(read_image(buffer.getvalue()).astype(int) - (pixels >> 8)).max() <= 1


def test_photos_of_phones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HEIC by pillow-heif where it is; where it is not, the message names it."""
    file = tmp_path / "a.heic"
    file.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(InputError, match=r"a\.heic: a HEIC/HEIF image, which needs the package pillow-heif"):
            read_image(file)
    heif = pytest.importorskip("pillow_heif")
    with pytest.raises(InputError, match=r"a\.heic: "):
        read_image(file)
    picture = Image.fromarray(np.full((64, 48, 3), (200, 40, 60), np.uint8))
    heif.from_pillow(picture).save(file, quality=90)
    pixels = read_image(file)
    assert pixels.shape == (64, 48, 3)
    assert np.abs(pixels.astype(int) - (200, 40, 60)).max() < 12
