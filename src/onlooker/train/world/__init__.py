"""A world to learn: clips and stills of coloured shapes, with everything that can be said and asked about them."""

from onlooker.train.world.baselines import ablate, majority, question_only
from onlooker.train.world.captions import Pair, caption, facts_of, pair, stated_facts
from onlooker.train.world.dataset import write_world
from onlooker.train.world.facts import Scene, Stage, Thing, is_held_out
from onlooker.train.world.files import write_clip, write_still
from onlooker.train.world.labels import DenseLabels, render_with_labels, true_tracks
from onlooker.train.world.long import LongClip, draw_long, long_frames, write_long
from onlooker.train.world.phrasings import KINDS, PHRASINGS, phrasings_of, vocabulary, words_of
from onlooker.train.world.questions import Question, ask, dialogue, kinds_for
from onlooker.train.world.render import render, render_at
from onlooker.train.world.rows import WorldRows
from onlooker.train.world.scenes import draw_scene
from onlooker.train.world.sheet import contact_sheet

__all__ = [
    "KINDS",
    "PHRASINGS",
    "DenseLabels",
    "LongClip",
    "Pair",
    "Question",
    "Scene",
    "Stage",
    "Thing",
    "WorldRows",
    "ablate",
    "ask",
    "caption",
    "contact_sheet",
    "dialogue",
    "draw_long",
    "draw_scene",
    "facts_of",
    "is_held_out",
    "kinds_for",
    "long_frames",
    "majority",
    "pair",
    "phrasings_of",
    "question_only",
    "render",
    "render_at",
    "render_with_labels",
    "stated_facts",
    "true_tracks",
    "vocabulary",
    "words_of",
    "write_clip",
    "write_long",
    "write_still",
    "write_world",
]
