"""Facts about every data set that facet reads: files, their places, their origin, and published counts.

Counts are those of the published files (face-recognition papers and the data sets' own pages); a set that is rendered
or cut down has others, which is odd but no fault.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stages.core.metrics.published_sets import COUNTS
from stages.datasets.ijb import GALLERIES
from stages.datasets.ijbs import GALLERY_FILES, METADATA, PROBE_FILES

_BIN_ORIGIN = (
    "inside the training sets of insightface's recognition/_datasets_ page (faces_emore, faces_webface_112x112), "
    "with the .rec file"
)
_IJB_ORIGIN = (
    "NIST stopped giving out the images on 14 March 2023; loose crops and meta lists: the evaluation archives "
    "linked in insightface's recognition/_evaluation_/ijb (IJB_release.tar, {0}_meta.tar for the 1:N lists), "
    "under NIST's terms"
)


@dataclass(frozen=True)
class Known:
    """One data set. Paths are relative to data/NAME; a path that ends in / is a folder."""

    name: str
    title: str
    place: str
    files: tuple[str, ...]
    origin: str
    counts: dict[str, int] = field(default_factory=dict)
    only: str = ""  # what the set is for, where it is not an own file
    one_to_n: tuple[str, ...] = ()  # those of the files that only the protocol 1:N needs


def _bin(name: str, title: str) -> Known:
    return Known(name, title, f"eval/{name}.bin", ("",), _BIN_ORIGIN, COUNTS[name])


def _ijb(name: str, counts: dict[str, int]) -> Known:
    meta = f"meta/{name.lower()}_"
    files = [f"{meta}{stem}.txt" for stem in ("name_5pts_score", "face_tid_mid", "template_pair_label")]
    search = tuple(f"{meta}1N_{stem}.csv" for stem in (*(f"gallery_{g}" for g in GALLERIES[name]), "probe_mixed"))
    return Known(
        name, f"IJB-{name[-1]}", f"eval/ijb/{name}/", ("loose_crop/", *files, *search), _IJB_ORIGIN.format(name),
        counts, one_to_n=search,
    )  # fmt: skip


def own(name: str, place: str) -> Known:
    """Return a set of a person's own, of which nothing is known."""
    return Known(name, name, place, ("",) if place.endswith(".bin") else ("images/",), "a set of your own")


TRAIN = Known(
    "train", "training set", "train/", ("train.rec, another NAME.rec, or PERSON/*.jpg",),
    "insightface's recognition/_datasets_ page: CASIA-WebFace, VGGFace2, MS1MV2, MS1MV3, Glint360K; WebFace260M by its "
    "own licence form",
)  # fmt: skip

KNOWN = {
    known.name: known
    for known in (
        _bin("lfw", "LFW"),
        _bin("cfp_fp", "CFP-FP"),
        _bin("cplfw", "CPLFW"),
        _bin("calfw", "CALFW"),
        _bin("agedb_30", "AgeDB-30"),
        _bin("cfp_ff", "CFP-FF"),
        _bin("vgg2_fp", "VGG2-FP"),
        Known(
            "crlfw", "CRLFW", "eval/lfw.bin", ("",),
            "derived from lfw.bin during evaluation: the first image of each pair at 8, 12, 16 and 20 px (QGFace)",
            COUNTS["lfw"], only="derived",
        ),
        _ijb("IJBB", {"images": 227630, **COUNTS["IJBB"], "1:N gallery": 1845, "1:N probes": 10270}),
        _ijb("IJBC", {"images": 469375, **COUNTS["IJBC"], "1:N gallery": 3531, "1:N probes": 19593}),
        Known(
            "ijbs", "IJB-S", "eval/ijbs/",
            ("aligned/", *(f"protocols/{file}" for file in (METADATA, *PROBE_FILES.values(), *GALLERY_FILES.values()))),
            "by request to the authors of its paper, Kalka et al., BTAS 2018 (protocol folder and videos); crop the "
            "faces by the boxes of cs6_metadata.csv, padded by a tenth, to 256 px, and align them (AdaFace "
            "validation_lq/README.md)",
            {"videos": 398, "subject and video": 3852},
        ),
        Known(
            "tinyface", "TinyFace", "eval/tinyface/",
            (
                "tinyface/Testing_Set/probe_img_ID_pairs.mat", "tinyface/Testing_Set/gallery_match_img_ID_pairs.mat",
                "tinyface/Testing_Set/Gallery_Distractor/", "aligned_pad_0.1_pad_high/",
            ),
            "qmul-tinyface.github.io; the aligned faces by the form in AdaFace validation_lq/README.md "
            "(self-made alignment gave a user 46.03 instead of 72.02: AdaFace issue 172)",
            {
                "probes": COUNTS["tinyface"]["probes"], "mates": 4443, "distractors": COUNTS["tinyface"]["distractors"],
            },
        ),
        Known(
            "scface", "SCface", "eval/scface/", ("all.txt", "aligned/"),
            "scface.org, by its release agreement; align the faces to 112 px and list them in all.txt as QGFace does",
            {**COUNTS["scface"], "d1": 650, "d2": 650, "d3": 650},
        ),
        Known(
            "adience", "Adience", "eval/adience/", ("images/",),
            "talhassner.github.io (Adience collection); align with CR-FIQA's feature_extraction/extract_adience.py, "
            "which also writes pair_list.txt and swaps red and blue",
            {"subjects": 2284},
        ),
        Known(
            "xqlfw", "XQLFW", "eval/xqlfw/", ("xqlfw_pairs.txt", "xqlfw_aligned_112/"),
            "martlgap.github.io/xqlfw: xqlfw_aligned_112.zip and xqlfw_pairs.txt; or CR-FIQA's layout of it",
            COUNTS["xqlfw"],
        ),
    )
}  # fmt: skip

# identities and images, insightface's _datasets_ page and the WebFace260M paper
TRAINING_SETS = {
    (10572, 490623): "CASIA-WebFace",
    (85742, 5822653): "MS1MV2 (faces_emore)",
    (93431, 5179510): "MS1MV3",
    (360232, 17091657): "Glint360K",
    (205990, 4235242): "WebFace4M",
    (617970, 12720066): "WebFace12M",
    (2059906, 42474557): "WebFace42M",
}
