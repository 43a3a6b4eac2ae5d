"""How the files beside this were made: by the tools' own code (`pip install supervisely darwin-py`).

In an environment of its own, as they want other versions of what segcli needs. Run in this folder.
"""

import json
from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 20, 30


def supervisely() -> dict:
    import supervisely as sly

    ring = [sly.PointLocation(r, c) for r, c in ((2, 2), (2, 12), (12, 12), (12, 2))]
    hole = [sly.PointLocation(r, c) for r, c in ((5, 5), (5, 8), (8, 8), (8, 5))]
    disc = np.zeros((HEIGHT, WIDTH), bool)
    disc[8:15, 18:26] = True
    disc[10:12, 20:22] = False
    geometries = {
        "box": sly.Polygon(ring, [hole]),
        "disc": sly.Bitmap(disc),
        "frame": sly.Rectangle(1, 2, 5, 9),
        "way": sly.Polyline(ring),
    }
    classes = {name: sly.ObjClass(name, type(geometry)) for name, geometry in geometries.items()}
    meta = sly.ProjectMeta(list(classes.values()), [sly.TagMeta("val", sly.TagValueType.NONE)])
    labels = [sly.Label(geometry, classes[name]) for name, geometry in geometries.items()]
    areas = {}
    for name in ("box", "disc"):
        canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
        geometries[name].draw(canvas, color=1)
        areas[name] = int(canvas.sum())
    files = {"meta.json": meta.to_json()}
    tag = sly.Tag(meta.tag_metas.get("val"))
    for number in range(3):
        tags = [tag] if number == 2 else []
        annotation = sly.Annotation((HEIGHT, WIDTH), labels[number % 2 :], img_tags=sly.TagCollection(tags))
        files[f"ds0/ann/p{number}.png.json"] = annotation.to_json()
    return {"files": files, "areas": areas}


def darwin() -> dict:
    import darwin.datatypes as dt
    from darwin.exporter.formats.darwin import build_image_annotation
    from darwin.utils import parse_darwin_json

    def points(*pairs):
        return [{"x": float(x), "y": float(y)} for x, y in pairs]

    outer, inner = points((2, 2), (12, 2), (12, 12), (2, 12)), points((5, 5), (8, 5), (8, 8), (5, 8))
    files = {}
    for number in range(3):
        objects = [
            dt.make_polygon("box", [outer, inner] if number else [outer], {"x": 2, "y": 2, "w": 10, "h": 10}),
            dt.make_bounding_box("frame", 1.0, 2.0, 5.0, 6.0),
            dt.make_tag("day"),
        ]
        name = f"p{number}.png"
        slot = dt.Slot("0", "image", [{"file_name": name, "url": ""}], width=WIDTH, height=HEIGHT, thumbnail_url="")
        classes = {one.annotation_class for one in objects}
        file = dt.AnnotationFile(Path(name), name, classes, objects, remote_path="/valid" if number == 2 else "/",
                                 slots=[slot], dataset_name="d")  # fmt: skip
        raw = build_image_annotation(file, "team")
        del raw["schema_ref"]
        files[f"releases/latest/annotations/p{number}.json"] = raw
    # masks, which this writer leaves out, in the form that its reader takes
    layer = {
        "dense_rle": [0, 304, 1, 4, 0, 26, 1, 4, 0, 4, 2, 3, 0, 255],
        "mask_annotation_ids_mapping": {"a": 1, "b": 2},
    }
    layer |= {"total_pixels": HEIGHT * WIDTH}
    rows = files["releases/latest/annotations/p0.json"]["annotations"]
    rows += [{"id": "a", "name": "disc", "mask": {"sparse_rle": None}, "slot_names": ["0"]},
             {"id": "b", "name": "disc", "mask": {"sparse_rle": None}, "slot_names": ["0"]},
             {"id": "c", "name": "__raster_layer__", "raster_layer": layer, "slot_names": ["0"]}]  # fmt: skip
    for name, raw in files.items():
        place = Path("p.tmp")
        place.write_text(json.dumps(raw))
        parsed = parse_darwin_json(place, 0)
        place.unlink()
        assert parsed is not None, name
        assert len(parsed.annotations) == len(raw["annotations"]), name
    return {"files": files, "areas": {}}


if __name__ == "__main__":
    for make in (supervisely, darwin):
        Path(f"{make.__name__}.json").write_text(json.dumps(make(), indent=1) + "\n")
