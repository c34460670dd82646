"""Programs for 2^x that were published (Real et al., "AutoNumerics-Zero", 2023), as printed."""

from decimal import Decimal

from evolve.autonumerics.programs import parse

_PUBLISHED = {
    "f2": (
        "add c2 x; div c1 t1",
        ["-2.1258595374472384", "-2.0413845597733418"],
    ),
    "f3": (
        "add c3 x; div c1 t1; sub t2 c2",
        ["-8.387819235563974", "1.4427239805682266", "-3.4355225277901402"],
    ),
    "f5": (
        "div c1 x; add c4 x; add t2 t1; div c2 t3; sub t4 c3",
        ["25.596749740144819", "17.746150088734609", "-0.99999366143081858", "-8.8505996518073289"],
    ),
    "f10": (
        "div c3 x; add x t1; div c1 t2; add t2 t3; add c2 t4; div c4 t5; sub t6 c5; "
        "mul t7 t7; mul t8 t8; mul t9 t9",
        [
            "15141.981176922711",
            "-250.55247494972059",
            "5783.5330096027765",
            "501.10494991027866",
            "-0.99999999999999956",
        ],
    ),
}


def published(name):
    """The program with the decimal constants as printed, to double-double precision."""
    text, words = _PUBLISHED[name]
    high = [float(word) for word in words]
    low = [float(Decimal(word) - Decimal(top)) for word, top in zip(words, high, strict=True)]
    return parse(text, high, low)
