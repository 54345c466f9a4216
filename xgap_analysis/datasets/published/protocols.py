"""The published datasets: the protocol of each, and what it needs on disk. Data only; the loaders read it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xgap_analysis.core.errors import XgapError

ROOT_VARIABLE = "XGAP_DATA"  # the folder of datasets where no root is given


@dataclass(frozen=True)
class Protocol:
    """How a published dataset is evaluated, and what its loader reads.

    Args:
        family: the loader that reads it (a key of `datasets.LOADERS`).
        about: what it is, in a few words.
        folders: where it lies under the root; the first that is whole is read.
        needs: path under the folder to what it is; "a|b" is either of two.
        queries, gallery, relevance: the protocol of split "test", as tables and `xgap datasets` say it.
        prompt: the text of a class, `{}` its name.
        reads: what the family's loader must know besides (names of files and folders).
    """

    family: str
    about: str
    folders: tuple[str, ...]
    needs: Mapping[str, str]
    queries: str
    gallery: str
    relevance: str
    prompt: str = "a photo of {}"
    reads: Mapping[str, str] = field(default_factory=dict)

    def folder(self, root: Path) -> Path:
        """The first folder that has all that is needed; else the first that is there, or the one that is expected."""
        there = [root / folder for folder in self.folders if (root / folder).is_dir()]
        whole = (folder for folder in there if not self._lacking(folder))
        return next(whole, there[0] if there else root / self.folders[0])

    def missing(self, root: Path) -> dict[str, str]:
        """What is needed and not there: path to what it is."""
        folder = self.folder(root)
        return {" or ".join(str(folder / path) for path in n.split("|")): self.needs[n] for n in self._lacking(folder)}

    def _lacking(self, folder: Path) -> list[str]:
        return [n for n in self.needs if not any((folder / path).exists() for path in n.split("|"))]

    def found(self, name: str, root: Path) -> Path:
        """The folder, with all that is needed in it.

        Raises:
            XgapError: something is missing (the message says what was expected where).
        """
        if not root.is_dir():
            raise XgapError(f"dataset {name!r} is looked for in {root}, which is no folder")
        missing = self.missing(root)
        if missing:
            wanted = "; ".join(f"{path} ({what})" for path, what in missing.items())
            raise XgapError(f"dataset {name!r} is not all there; still to be put in its place: {wanted}")
        return self.folder(root)


def data_folder(root: Path | str | None) -> Path | None:
    """The folder of datasets: the one given, or the environment variable XGAP_DATA; None where neither is."""
    given = root if root is not None else os.environ.get(ROOT_VARIABLE) or None
    return None if given is None else Path(given).expanduser()


def _coop(about: str, folder: str, images: str, split: str, prompt: str) -> Protocol:
    return Protocol(
        family="coop",
        about=about,
        folders=(folder, f"CoOp/{folder}"),
        needs={split: "CoOp's split file", images: "the images"},
        queries="test images",
        gallery="train images",
        relevance="same class",
        prompt=prompt,
        reads={"split": split, "images": images},
    )


def _landmarks(about: str, name: str) -> Protocol:
    return Protocol(
        family="landmarks",
        about=about,
        folders=(name, f"datasets/{name}"),
        needs={f"gnd_{name}.pkl": "the published ground truth", "jpg": "the images"},
        queries="70 images, cropped",
        gallery="all other images",
        relevance="per image: medium, easy, hard, with junk",
        reads={"truth": f"gnd_{name}.pkl"},
    )


def _nano(about: str, name: str) -> Protocol:
    parts = ("corpus", "queries", "qrels")
    return Protocol(
        family="documents",
        about=about,
        folders=(name, f"NanoBEIR/{name}", f"nanobeir/{name}"),
        needs={part: f"the folder {part} of the published Parquet files" for part in parts},
        queries="queries",
        gallery="documents",
        relevance="per document, graded",
    )


PROTOCOLS: dict[str, Protocol] = {
    "cub-200-2011": Protocol(
        family="cub",
        about="photographs of 200 bird species",
        folders=("CUB_200_2011",),
        needs={
            **{f"{part}.txt": "a published list" for part in ("images", "image_class_labels", "classes")},
            "train_test_split.txt": "a published list",
            "images": "the images",
        },
        queries="all images",
        gallery="all other images",
        relevance="same class",
    ),
    "sop": Protocol(
        family="sop",
        about="Stanford Online Products: several photographs of each product on offer",
        folders=("Stanford_Online_Products",),
        needs={"Ebay_train.txt": "a published list", "Ebay_test.txt": "a published list"},
        queries="test images",
        gallery="all other test images",
        relevance="same product",
    ),
    "roxford5k": _landmarks("revisited Oxford buildings", "roxford5k"),
    "rparis6k": _landmarks("revisited Paris landmarks", "rparis6k"),
    "caltech101": _coop(
        "objects of 100 kinds", "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json", "a photo of a {}."
    ),
    "dtd": _coop("textures of 47 kinds", "dtd", "images", "split_zhou_DescribableTextures.json", "{} texture."),
    "eurosat": _coop(
        "satellite images of 10 land uses",
        "eurosat",
        "2750",
        "split_zhou_EuroSAT.json",
        "a centered satellite photo of {}.",
    ),
    "fgvc-aircraft": Protocol(
        family="aircraft",
        about="photographs of 100 aircraft variants",
        folders=("fgvc_aircraft", "CoOp/fgvc_aircraft"),
        needs={
            "variants.txt": "a published list",
            **{f"images_variant_{part}.txt": "a published list" for part in ("train", "val", "test")},
            "images": "the images",
        },
        queries="test images",
        gallery="train images",
        relevance="same class",
        prompt="a photo of a {}, a type of aircraft.",
    ),
    "food101": _coop(
        "dishes of 101 kinds", "food-101", "images", "split_zhou_Food101.json", "a photo of {}, a type of food."
    ),
    "flowers102": _coop(
        "flowers of 102 kinds",
        "oxford_flowers",
        "jpg",
        "split_zhou_OxfordFlowers.json",
        "a photo of a {}, a type of flower.",
    ),
    "oxford-pets": _coop(
        "cats and dogs of 37 breeds",
        "oxford_pets",
        "images",
        "split_zhou_OxfordPets.json",
        "a photo of a {}, a type of pet.",
    ),
    "stanford-cars": _coop(
        "cars of 196 models", "stanford_cars", ".", "split_zhou_StanfordCars.json", "a photo of a {}."
    ),
    "sun397": _coop("scenes of 397 kinds", "sun397", "SUN397", "split_zhou_SUN397.json", "a photo of a {}."),
    "ucf101": _coop(
        "middle frames of videos of 101 actions",
        "ucf101",
        "UCF-101-midframes",
        "split_zhou_UCF101.json",
        "a photo of a person doing {}.",
    ),
    "imagenet": Protocol(
        family="imagenet",
        about="photographs of 1,000 kinds",
        folders=("imagenet", "CoOp/imagenet"),
        needs={
            "classnames.txt": "CoOp's class names",
            "images/train": "class folders (n01440764, ...) of training images",
            "images/val": "class folders of validation images",
        },
        queries="validation images",
        gallery="train images",
        relevance="same class",
        prompt="a photo of a {}.",
    ),
    "coco": Protocol(
        family="karpathy",
        about="COCO: photographs with five captions each",
        folders=("coco", "COCO2014"),
        needs={"dataset_coco.json|dataset_coco_light.json": "Karpathy's captions and splits"},
        queries="first captions of the test images",
        gallery="their other captions",
        relevance="same image",
        reads={
            "captions": "dataset_coco.json|dataset_coco_light.json",
            "images": "val2014|images/val2014",
            "nested": "yes",
            "evaluated": "test",
        },
    ),
    "flickr30k": Protocol(
        family="karpathy",
        about="Flickr30k: photographs with five captions each",
        folders=("flickr30k", "Flickr30K"),
        needs={"dataset_flickr30k.json": "Karpathy's captions and splits"},
        queries="first captions of the val images (as the paper)",
        gallery="their other captions",
        relevance="same image",
        reads={
            "captions": "dataset_flickr30k.json",
            "images": "flickr30k-images|flickr30k_images|images|Images",
            "nested": "",
            "evaluated": "val",
        },
    ),
    "nocaps": Protocol(
        family="nocaps",
        about="photographs of novel objects with ten captions each",
        folders=("nocaps",),
        needs={"nocaps_val_4500_captions.json": "the published captions"},
        queries="first captions of the val images",
        gallery="their other captions",
        relevance="same image",
        reads={"captions": "nocaps_val_4500_captions.json", "images": "images|val|validation"},
    ),
    "20-newsgroups": Protocol(
        family="newsgroups",
        about="posts of 20 newsgroups",
        folders=("20news-bydate", "20news_home"),
        needs={"20news-bydate-test": "folders of posts by group"},
        queries="20 sentences (our own)",
        gallery="test posts",
        relevance="same group",
    ),
    "imdb": Protocol(
        family="imdb",
        about="reviews of movies",
        folders=("aclImdb", "IMDB_Reviews", "imdb"),
        needs={"test|IMDB_Dataset.csv|IMDB Dataset.csv": "train and test with pos and neg, or the table of reviews"},
        queries="2 sentences (our own)",
        gallery="all reviews",
        relevance="same sentiment",
    ),
    "nano-climatefever": _nano("claims about the climate, and articles", "NanoClimateFEVER"),
    "nano-dbpedia": _nano("questions, and entities of DBpedia", "NanoDBPedia"),
    "nano-fever": _nano("claims, and articles that speak of them", "NanoFEVER"),
    "nano-nfcorpus": _nano("questions about nutrition, and medical abstracts", "NanoNFCorpus"),
    "nano-nq": _nano("questions to a search engine, and passages", "NanoNQ"),
    "nano-scidocs": _nano("titles of papers, and the papers they cite", "NanoSCIDOCS"),
    "nano-scifact": _nano("scientific claims, and abstracts", "NanoSciFact"),
    "dogs-vs-cats": Protocol(
        family="dogs-cats",
        about="photographs of dogs and of cats",
        folders=("dogs-vs-cats", "dogs_vs_cats", "kagglecatsanddogs"),
        needs={"train|PetImages": "cat.0.jpg, dog.0.jpg, ...; or Cat/0.jpg, Dog/0.jpg, ..."},
        queries="all images",
        gallery="all other images",
        relevance="same animal",
        prompt="a photo of a {}",
    ),
}
