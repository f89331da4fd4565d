"""Readers of the JSON formats: LLaVA and Video-LLaVA conversations, COCO captions, VQAv2, and JSONL."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from onlooker.train.data.record import Record, Records, RowError, Turn
from onlooker.train.data.rows import conversation, find_media, medium, plain, require_mapping, require_text


def load_json(path: Path) -> Any:
    """A whole JSON file.

    Raises:
        ValueError: it is no JSON; nothing of it can be used then.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}. For one JSON object on each line, name it .jsonl") from error


def read_llava(path: Path, records: Records, root: Path) -> None:
    """A list of rows with "id", "image" or "video", and "conversations"; rows of text alone are kept."""

    def make(number: int, row: Any) -> Record:
        row = require_mapping(row)
        return conversation(row.get("conversations"), find_media(row, root), str(row.get("id", number)))

    records.read(str(path), ((number, partial(make, number, row)) for number, row in enumerate(load_json(path))))


def read_jsonl(path: Path, records: Records, root: Path) -> None:
    """An object on each line: media under "image", "video" or "media", and what is said of them, see `rows.plain`."""

    def make(number: int, line: bytes) -> Record:
        try:
            row = require_mapping(json.loads(line))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise RowError(f"no JSON: {error}") from error
        return plain(row, find_media(row, root), str(row.get("id", number)))

    with path.open("rb") as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        records.read(str(path), ((number, partial(make, number, line)) for number, line in lines))


def read_coco(path: Path, records: Records, root: Path) -> None:
    """COCO captions: a record for each annotation, so a picture comes as often as it has captions."""
    document = load_json(path)
    names = _names(document)

    def make(row: Any) -> Record:
        row = require_mapping(row)
        image = row.get("image_id")
        if image not in names:
            raise RowError(f"image_id {image!r} is not among the images")
        picture = medium("image", names[image], root)
        return Record(str(row.get("id", image)), (picture,), (Turn("", require_text(row, "caption")),))

    records.read(str(path), ((number, partial(make, row)) for number, row in enumerate(_rows(document, "annotations"))))


def read_vqa(path: Path, records: Records, root: Path, annotations: Path | None = None) -> None:
    """VQAv2: a file of questions, and beside it the one of annotations, whose most frequent answer is learnt.

    Args:
        annotations: found by its name when not given: "questions" becomes "annotations".

    Raises:
        ValueError: there is no file of annotations.
    """
    document = load_json(path)
    annotations = annotations or _annotations_of(path)
    answers = {}
    for row in _rows(load_json(annotations), "annotations"):
        if isinstance(row, Mapping):
            answers[row.get("question_id")] = row
    subtype = document.get("data_subtype") or "train2014"

    def make(row: Any) -> Record:
        row = require_mapping(row)
        number, image = row.get("question_id"), row.get("image_id")
        if number not in answers:
            raise RowError(f"question_id {number!r} has no annotation")
        if not isinstance(image, int):
            raise RowError(f"image_id is {image!r}, not a number")
        given = answers[number].get("answers")
        several = tuple(str(a["answer"]) for a in given or () if isinstance(a, Mapping) and a.get("answer"))
        best = answers[number].get("multiple_choice_answer") or (Counter(several).most_common(1) or [("", 0)])[0][0]
        if not best:
            raise RowError("no answer")
        name = row.get("image") or _coco_name(root, subtype, image)
        turn = Turn(require_text(row, "question"), str(best), several)
        return Record(str(number), (medium("image", name, root),), (turn,))

    records.read(str(path), ((number, partial(make, row)) for number, row in enumerate(_rows(document, "questions"))))


def _rows(document: Any, name: str) -> Iterator[Any]:
    rows = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(rows, list):
        raise ValueError(f"the file has no list {name!r}; it is of another format")
    return iter(rows)


def _names(document: Any) -> dict[Any, str]:
    images = (image for image in _rows(document, "images") if isinstance(image, Mapping))
    return {image.get("id"): image["file_name"] for image in images if isinstance(image.get("file_name"), str)}


def _coco_name(root: Path, subtype: str, image: int) -> str:
    """The file of a picture, as COCO named them in 2014 and in 2017, in the folder itself or one of the subset."""
    names = [f"COCO_{subtype}_{image:012d}.jpg", f"{image:012d}.jpg"]
    places = [place for name in names for place in (name, f"{subtype}/{name}")]
    return next((place for place in places if (root / place).is_file()), names[0])


def _annotations_of(path: Path) -> Path:
    tried: list[str] = []
    for old, new in (("questions", "annotations"), ("OpenEnded_mscoco", "mscoco")):
        name = (tried[-1] if tried else path.name).replace(old, new)
        tried.append(name)
        if name != path.name and (path.parent / name).is_file():
            return path.parent / name
    tried.append(path.name.replace("OpenEnded_", "").replace("questions", "annotations"))
    if (path.parent / tried[-1]).is_file() and tried[-1] != path.name:
        return path.parent / tried[-1]
    raise ValueError(
        f"{path.name} holds questions; there is no {' or '.join(dict.fromkeys(tried))} beside it. Name it."
    )


Reader = Callable[[Path, Records, Path], None]
