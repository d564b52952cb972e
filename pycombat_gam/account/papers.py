"""The papers to cite, as text for a list of references and as BibTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A paper.

    Attributes
    ----------
    key : in BibTeX; cited : by authors and year, as in a sentence.
    kind : BibTeX's; fields : BibTeX's, in order.
    """

    key: str
    cited: str
    kind: str
    fields: Mapping[str, str]

    @property
    def text(self) -> str:
        """The reference as text for a list of references."""
        of = {name: value.replace("--", "–").replace("{", "").replace("}", "") for name, value in self.fields.items()}
        people = [_initials(name) for name in of["author"].split(" and ")]
        more = people[-1] == "others"
        authors = f"{', '.join(people[:-1])}, et al." if more else ", ".join(people)
        volume = of.get("volume", "") + (f"({of['number']})" if "number" in of else "")
        where = of["url"] if "url" in of else f"https://doi.org/{of['doi']}"
        journal, book = of.get("journal"), of.get("booktitle")
        published = f"{book}, {volume}" if journal is None else f"{journal} {volume}".strip()
        place = f"{published}, {of['pages']}"
        return f"{authors} ({of['year']}). {of['title']}. {place}. {where}"

    @property
    def bibtex(self) -> str:
        """The reference for BibTeX."""
        lines = [f"  {name} = {{{value}}}," for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


def _initials(name: str) -> str:
    """Shorten "Li, Cheng" to "Li C"."""
    family, _, first_names = name.partition(", ")
    initials = "".join(part[0] for part in first_names.replace("-", " ").split())
    return f"{family} {initials}".strip()


def _article(key: str, cited: str, **fields: str) -> Reference:
    return Reference(key, cited, "article", fields)


JOHNSON = _article(
    "johnson2007combat",
    "Johnson, Li & Rabinovic 2007",
    author="Johnson, W. Evan and Li, Cheng and Rabinovic, Ariel",
    title="Adjusting batch effects in microarray expression data using empirical {Bayes} methods",
    journal="Biostatistics",
    volume="8",
    number="1",
    pages="118--127",
    year="2007",
    doi="10.1093/biostatistics/kxj037",
)
FORTIN_2017 = _article(
    "fortin2017harmonization",
    "Fortin et al. 2017",
    author="Fortin, Jean-Philippe and Parker, Drew and Tunc, Birkan and others",
    title="Harmonization of multi-site diffusion tensor imaging data",
    journal="NeuroImage",
    volume="161",
    pages="149--170",
    year="2017",
    doi="10.1016/j.neuroimage.2017.08.047",
)
FORTIN_2018 = _article(
    "fortin2018harmonization",
    "Fortin et al. 2018",
    author="Fortin, Jean-Philippe and Cullen, Nicholas and Sheline, Yvette I. and others",
    title="Harmonization of cortical thickness measurements across scanners and sites",
    journal="NeuroImage",
    volume="167",
    pages="104--120",
    year="2018",
    doi="10.1016/j.neuroimage.2017.11.024",
)
POMPONIO = _article(
    "pomponio2020harmonization",
    "Pomponio et al. 2020",
    author="Pomponio, Raymond and Erus, Guray and Habes, Mohamad and others",
    title="Harmonization of large {MRI} datasets for the analysis of brain imaging patterns throughout the lifespan",
    journal="NeuroImage",
    volume="208",
    pages="116450",
    year="2020",
    doi="10.1016/j.neuroimage.2019.116450",
)
BEER = _article(
    "beer2020longitudinal",
    "Beer et al. 2020",
    author="Beer, Joanne C. and Tustison, Nicholas J. and Cook, Philip A. and others",
    title="Longitudinal {ComBat}: A method for harmonizing longitudinal multi-scanner imaging data",
    journal="NeuroImage",
    volume="220",
    pages="117129",
    year="2020",
    doi="10.1016/j.neuroimage.2020.117129",
)
WOOD = _article(
    "wood2011fast",
    "Wood 2011",
    author="Wood, Simon N.",
    title="Fast stable restricted maximum likelihood and marginal likelihood estimation of semiparametric generalized "
    "linear models",
    journal="Journal of the Royal Statistical Society: Series B",
    volume="73",
    number="1",
    pages="3--36",
    year="2011",
    doi="10.1111/j.1467-9868.2010.00749.x",
)
WANG = Reference(
    "wang2021harmonization",
    "Wang, Chaudhari & Davatzikos 2021",
    "inproceedings",
    {
        "author": "Wang, Rongguang and Chaudhari, Pratik and Davatzikos, Christos",
        "title": "Harmonization with flow-based causal inference",
        "booktitle": "Medical Image Computing and Computer Assisted Intervention (MICCAI 2021)",
        "series": "Lecture Notes in Computer Science",
        "volume": "12903",
        "pages": "181--190",
        "year": "2021",
        "doi": "10.1007/978-3-030-87199-4_17",
    },
)
BENJAMINI = _article(
    "benjamini1995controlling",
    "Benjamini & Hochberg 1995",
    author="Benjamini, Yoav and Hochberg, Yosef",
    title="Controlling the false discovery rate: a practical and powerful approach to multiple testing",
    journal="Journal of the Royal Statistical Society: Series B",
    volume="57",
    number="1",
    pages="289--300",
    year="1995",
    doi="10.1111/j.2517-6161.1995.tb02031.x",
)
SIMES = _article(
    "simes1986improved",
    "Simes 1986",
    author="Simes, R. J.",
    title="An improved {Bonferroni} procedure for multiple tests of significance",
    journal="Biometrika",
    volume="73",
    number="3",
    pages="751--754",
    year="1986",
    doi="10.1093/biomet/73.3.751",
)
HOLM = _article(
    "holm1979simple",
    "Holm 1979",
    author="Holm, Sture",
    title="A simple sequentially rejective multiple test procedure",
    journal="Scandinavian Journal of Statistics",
    volume="6",
    number="2",
    pages="65--70",
    year="1979",
    url="https://www.jstor.org/stable/4615733",
)

LEE = _article(
    "lee2023hierarchical",
    "Lee, Barber & Willett 2023",
    author="Lee, Yonghoon and Barber, Rina Foygel and Willett, Rebecca",
    title="Distribution-free inference with hierarchical data",
    journal="arXiv preprint",
    pages="arXiv:2306.06342",
    year="2023",
    url="https://arxiv.org/abs/2306.06342",
)
DUNN = _article(
    "dunn2023hierarchical",
    "Dunn, Wasserman & Ramdas 2023",
    author="Dunn, Robin and Wasserman, Larry and Ramdas, Aaditya",
    title="Distribution-free prediction sets for two-layer hierarchical models",
    journal="Journal of the American Statistical Association",
    volume="118",
    number="544",
    pages="2491--2502",
    year="2023",
    doi="10.1080/01621459.2022.2060112",
)
BARBER = _article(
    "barber2021jackknife",
    "Barber et al. 2021",
    author="Barber, Rina Foygel and Candès, Emmanuel J. and Ramdas, Aaditya and Tibshirani, Ryan J.",
    title="Predictive inference with the jackknife+",
    journal="The Annals of Statistics",
    volume="49",
    number="1",
    pages="486--507",
    year="2021",
    doi="10.1214/20-AOS1965",
)
DUCHI = _article(
    "duchi2024environments",
    "Duchi et al. 2024",
    author="Duchi, John C. and Gupta, Suyash and Jiang, Kuanhao and Sur, Pragya",
    title="Predictive inference in multi-environment scenarios",
    journal="arXiv preprint",
    pages="arXiv:2403.16336",
    year="2024",
    url="https://arxiv.org/abs/2403.16336",
)
DELONG = _article(
    "delong1988comparing",
    "DeLong, DeLong & Clarke-Pearson 1988",
    author="DeLong, Elizabeth R. and DeLong, David M. and Clarke-Pearson, Daniel L.",
    title="Comparing the areas under two or more correlated receiver operating characteristic curves: a nonparametric "
    "approach",
    journal="Biometrics",
    volume="44",
    number="3",
    pages="837--845",
    year="1988",
    doi="10.2307/2531595",
)
PAULE = _article(
    "paule1982consensus",
    "Paule & Mandel 1982",
    author="Paule, Robert C. and Mandel, John",
    title="Consensus values and weighting factors",
    journal="Journal of Research of the National Bureau of Standards",
    volume="87",
    number="5",
    pages="377--385",
    year="1982",
    doi="10.6028/jres.087.022",
)
HARTUNG = _article(
    "hartung2001refined",
    "Hartung & Knapp 2001",
    author="Hartung, J. and Knapp, G.",
    title="A refined method for the meta-analysis of controlled clinical trials with binary outcome",
    journal="Statistics in Medicine",
    volume="20",
    number="24",
    pages="3875--3889",
    year="2001",
    doi="10.1002/sim.1009",
)
VICKERS = _article(
    "vickers2006decision",
    "Vickers & Elkin 2006",
    author="Vickers, Andrew J. and Elkin, Elena B.",
    title="Decision curve analysis: a novel method for evaluating prediction models",
    journal="Medical Decision Making",
    volume="26",
    number="6",
    pages="565--574",
    year="2006",
    doi="10.1177/0272989X06295361",
)
TRIPOD_CLUSTER = _article(
    "debray2023tripod",
    "Debray et al. 2023",
    author="Debray, Thomas P. A. and Collins, Gary S. and Riley, Richard D. and others",
    title="Transparent reporting of multivariable prediction models developed or validated using clustered data: "
    "{TRIPOD-Cluster} checklist",
    journal="BMJ",
    volume="380",
    pages="e071018",
    year="2023",
    doi="10.1136/bmj-2022-071018",
)
TRIPOD_AI = _article(
    "collins2024tripod",
    "Collins et al. 2024",
    author="Collins, Gary S. and Moons, Karel G. M. and Dhiman, Paula and others",
    title="{TRIPOD+AI} statement: updated guidance for reporting clinical prediction models that use regression or "
    "machine learning methods",
    journal="BMJ",
    volume="385",
    pages="e078378",
    year="2024",
    doi="10.1136/bmj-2023-078378",
)


def bibtex(used: Iterable[Reference]) -> str:
    """Return references for BibTeX."""
    return "\n\n".join(paper.bibtex for paper in used)
