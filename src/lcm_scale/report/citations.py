"""Whom a report's methods cite: only what the evaluation used, as BibTeX and as a list.

DOIs are written as numbers, not as links: the page needs no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Citation:
    """A work.

    Attributes:
        kind: of the BibTeX entry.   where: journal, book or note.   more: its other fields.
    """

    key: str
    kind: str
    authors: str
    year: str
    title: str
    where: str = ""
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """As a list of references has it."""
        known = self.more.get("doi", "")
        doi = f" doi:{known}" if known and known not in self.title else ""
        pages = "".join(f", {self.more[name]}" for name in ("volume", "pages") if name in self.more)
        year = f" ({self.year})" if self.year else ""
        people = self.authors.replace(" and others", " et al.").replace(" and ", "; ")
        head = f"{people}{year}. " if people else ""
        place = f" {self.where}{pages}." if self.where else ""
        return f"{head}{self.title}.{place}{doi}".replace("--", "\N{EN DASH}")

    @property
    def bibtex(self) -> str:
        place = {"article": "journal", "inproceedings": "booktitle", "book": "publisher"}
        fields = {
            "author": self.authors,
            "year": self.year,
            "title": f"{{{_escaped(self.title)}}}",
            place.get(self.kind, "howpublished"): _escaped(self.where),
            **self.more,
        }
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
        return f"@{self.kind}{{{self.key},\n{body}\n}}\n"


def _escaped(text: str) -> str:
    """Signs that TeX would act upon, and braces that would end a field."""
    return re.sub(r"([&%$#_])", r"\\\1", re.sub(r"[{}\\]", "", text))


def _article(
    key: str, authors: str, year: str, title: str, journal: str, place: str, doi: str = ""
) -> Citation:
    """Args: place: ``volume:pages``."""
    volume, _, pages = place.partition(":")
    more = {"volume": volume, "pages": pages, **({"doi": doi} if doi else {})}
    return Citation(key, "article", authors, year, title, journal, more)


LCM = Citation(
    "wei2025lcm",
    "misc",
    "Wei, Ziquan and Dan, Tingting and Wu, Guorong",
    "2025",
    "Large Connectome Model: An fMRI Foundation Model of Brain Connectomes Empowered by "
    "Brain-Environment Interaction in Multitask Learning Landscape",
    "arXiv 2510.18910",
    {"eprint": "2510.18910", "archiveprefix": "arXiv"},
)
ATLASES = {  # how a built-in atlas's name begins -> its source
    "aal116": _article(
        "tzourio2002aal",
        "Tzourio-Mazoyer, N. and Landeau, B. and Papathanassiou, D. and others",
        "2002",
        "Automated anatomical labeling of activations in SPM using a macroscopic anatomical "
        "parcellation of the MNI MRI single-subject brain",
        "NeuroImage",
        "15:273--289",
        "10.1006/nimg.2001.0978",
    ),
    "aal94": _article(
        "rolls2015aal2",
        "Rolls, E. T. and Joliot, M. and Tzourio-Mazoyer, N.",
        "2015",
        "Implementation of a new parcellation of the orbitofrontal cortex in the automated "
        "anatomical labeling atlas",
        "NeuroImage",
        "122:1--5",
        "10.1016/j.neuroimage.2015.07.075",
    ),
    "schaefer": _article(
        "schaefer2018",
        "Schaefer, A. and Kong, R. and Gordon, E. M. and others",
        "2018",
        "Local-global parcellation of the human cerebral cortex from intrinsic functional "
        "connectivity MRI",
        "Cerebral Cortex",
        "28:3095--3114",
        "10.1093/cercor/bhx179",
    ),
    "gordon": _article(
        "gordon2016",
        "Gordon, E. M. and Laumann, T. O. and Adeyemo, B. and others",
        "2016",
        "Generation and evaluation of a cortical area parcellation from resting-state correlations",
        "Cerebral Cortex",
        "26:288--303",
        "10.1093/cercor/bhu239",
    ),
    "dosenbach": _article(
        "dosenbach2010",
        "Dosenbach, N. U. F. and Nardos, B. and Cohen, A. L. and others",
        "2010",
        "Prediction of individual brain maturity using fMRI",
        "Science",
        "329:1358--1361",
        "10.1126/science.1194144",
    ),
    "power": _article(
        "power2011",
        "Power, J. D. and Cohen, A. L. and Nelson, S. M. and others",
        "2011",
        "Functional network organization of the human brain",
        "Neuron",
        "72:665--678",
        "10.1016/j.neuron.2011.09.006",
    ),
    "harvardoxford": _article(
        "desikan2006",
        "Desikan, R. S. and Segonne, F. and Fischl, B. and others",
        "2006",
        "An automated labeling system for subdividing the human cerebral cortex on MRI scans into "
        "gyral based regions of interest",
        "NeuroImage",
        "31:968--980",
        "10.1016/j.neuroimage.2006.01.021",
    ),
    "mist": _article(
        "urchs2019mist",
        "Urchs, S. and Armoza, J. and Moreau, C. and others",
        "2019",
        "MIST: A multi-resolution parcellation of functional brain networks",
        "MNI Open Research",
        "1:3",
    ),
}
LEDOIT_WOLF = _article(
    "ledoit2004",
    "Ledoit, O. and Wolf, M.",
    "2004",
    "A well-conditioned estimator for large-dimensional covariance matrices",
    "Journal of Multivariate Analysis",
    "88:365--411",
    "10.1016/S0047-259X(03)00096-4",
)
TANGENT = Citation(
    "varoquaux2010tangent",
    "inproceedings",
    "Varoquaux, G. and Baronnet, F. and Kleinschmidt, A. and Fillard, P. and Thirion, B.",
    "2010",
    "Detection of brain functional-connectivity difference in post-stroke patients using "
    "group-level covariance modeling",
    "MICCAI 2010",
    {"doi": "10.1007/978-3-642-15705-9_25"},
)
COMBAT = (
    _article(
        "johnson2007combat",
        "Johnson, W. E. and Li, C. and Rabinovic, A.",
        "2007",
        "Adjusting batch effects in microarray expression data using empirical Bayes methods",
        "Biostatistics",
        "8:118--127",
        "10.1093/biostatistics/kxj037",
    ),
    _article(
        "fortin2017combat",
        "Fortin, J.-P. and Parker, D. and Tunc, B. and others",
        "2017",
        "Harmonization of multi-site diffusion tensor imaging data",
        "NeuroImage",
        "161:149--170",
        "10.1016/j.neuroimage.2017.08.047",
    ),
)
BOOTSTRAP = Citation(
    "efron1993bootstrap",
    "book",
    "Efron, B. and Tibshirani, R. J.",
    "1993",
    "An Introduction to the Bootstrap",
    "Chapman and Hall",
)
CORRECTED = _article(
    "nadeau2003",
    "Nadeau, C. and Bengio, Y.",
    "2003",
    "Inference for the generalization error",
    "Machine Learning",
    "52:239--281",
    "10.1023/A:1024068626366",
)
HOLM = _article(
    "holm1979",
    "Holm, S.",
    "1979",
    "A simple sequentially rejective multiple test procedure",
    "Scandinavian Journal of Statistics",
    "6:65--70",
)
TEMPERATURE = Citation(
    "guo2017calibration",
    "inproceedings",
    "Guo, C. and Pleiss, G. and Sun, Y. and Weinberger, K. Q.",
    "2017",
    "On calibration of modern neural networks",
    "ICML 2017",
)
CONFORMAL = Citation(
    "vovk2005",
    "book",
    "Vovk, V. and Gammerman, A. and Shafer, G.",
    "2005",
    "Algorithmic Learning in a Random World",
    "Springer",
)
HAUFE = _article(
    "haufe2014",
    "Haufe, S. and Meinecke, F. and Gorgen, K. and others",
    "2014",
    "On the interpretation of weight vectors of linear models in multivariate neuroimaging",
    "NeuroImage",
    "87:96--110",
    "10.1016/j.neuroimage.2013.10.067",
)
LORA = Citation(
    "hu2022lora",
    "inproceedings",
    "Hu, E. J. and Shen, Y. and Wallis, P. and others",
    "2022",
    "LoRA: Low-rank adaptation of large language models",
    "ICLR 2022",
)
ADAMW = Citation(
    "loshchilov2019adamw",
    "inproceedings",
    "Loshchilov, I. and Hutter, F.",
    "2019",
    "Decoupled weight decay regularization",
    "ICLR 2019",
)
PYTORCH = Citation(
    "paszke2019pytorch",
    "inproceedings",
    "Paszke, A. and Gross, S. and Massa, F. and others",
    "2019",
    "PyTorch: An imperative style, high-performance deep learning library",
    "NeurIPS 2019",
)
SCIKIT_LEARN = _article(
    "pedregosa2011sklearn",
    "Pedregosa, F. and Varoquaux, G. and Gramfort, A. and others",
    "2011",
    "Scikit-learn: Machine learning in Python",
    "Journal of Machine Learning Research",
    "12:2825--2830",
)
DOI = re.compile(r"10\.\d{4,9}/[^\s,;)\]}]+")


def citations(methods: Mapping[str, Any], explained: bool) -> list[Citation]:
    """What an evaluation used, in the order of its methods.

    Args: methods: as `described.described` gives them.   explained: maps were made of the model.
    """
    found = [*_of_data(methods), *_of_methods(methods), *([HAUFE] if explained else [])]
    return list({each.key: each for each in found}.values())


def _of_data(methods: Mapping[str, Any]) -> Iterator[Citation]:
    """The sets as their manifests name their sources, then atlases and estimators."""
    for one in methods["sets"]:
        for number, note in enumerate(one["notes"], 1):
            doi = DOI.search(note)
            key = "".join(c for c in one["name"] if c.isalnum()) or "set"
            more = {"doi": doi.group().rstrip(".")} if doi else {}
            yield Citation(f"{key}{number}", "misc", "", "", note.rstrip("."), "", more)
    for one in methods["sets"]:
        known = [work for start, work in ATLASES.items() if one["atlas"].startswith(start)]
        yield from known
        if one["connectivity"]["kind"] in ("ledoit-wolf", "partial", "covariance"):
            yield LEDOIT_WOLF


def _of_methods(methods: Mapping[str, Any]) -> Iterator[Citation]:
    asked, model = methods["evaluation"], methods["model"]
    yield LCM
    if model["trains"]["part"] == "lora":
        yield LORA
    if any(phase["stage"] == "adaptive" for phase in methods["training"].get("phases", ())):
        yield ADAMW
    if "tangent" in asked["baselines"] or model["people_memory"] != "none":
        yield TANGENT
    yield from COMBAT if asked["harmonise"] == "combat" else ()
    used = (
        (TEMPERATURE, any("temperature" in of for of in asked["calibrated"].values())),
        (CONFORMAL, asked["conformal"]),
        (BOOTSTRAP, asked["bootstrap"]),
        (CORRECTED, asked["protocol"] == "repeated"),
        (HOLM, len(asked["targets"]) > 1),
    )
    yield from (work for work, on in used if on)
    yield from (PYTORCH, SCIKIT_LEARN)
