"""What a page says of maps, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lcm_scale.explain.exchange import SITE
from lcm_scale.explain.found import Found, TokenMap
from lcm_scale.explain.levels import EDGES, PAIRS, REGIONS
from lcm_scale.explain.stability import Agreement

MINUS = "\N{MINUS SIGN}"
ONE = {EDGES: "edge", REGIONS: "region", PAIRS: "network pair"}


def title(token: TokenMap) -> str:
    """``diagnosis, Autism against CN``; of a scalar its name and unit."""
    if not token.against:
        return f"{token.target} ({token.unit})" if token.unit else token.target
    others = token.against[0] if len(token.against) == 1 else f"the {len(token.against)} others"
    return f"{token.target}, {token.token} against {others}"


def verdict(token: TokenMap, permutations: int) -> str:
    """Whether anything of a token's map differs from noise; begins with a small letter."""
    if token.memory is None:
        return "no people memory answers it, so that nothing here is held against noise."
    if not permutations:
        return "not held against label-permuted models; nothing here is a finding."
    some = {level: int(each.differs.sum()) for level, each in token.levels.items()}
    against = f"{permutations:,} label-permuted models"
    if token.beyond:
        against += f" that know {_joined(token.beyond)}"
    if not any(some.values()):
        levels = [ONE[level] for level in token.levels]
        return (
            f"no {_joined(levels, 'or')} differs from {against}: nothing on this map is a finding."
        )
    counts = [f"{some[level]:,} of {len(each.p):,} {level}" for level, each in token.levels.items()]
    return f"{_joined(counts)} differ from {against} (p < .05, corrected over the map)."


def first_sentences(found: Found) -> list[str]:
    """One a token, of targets with many tokens one a target."""
    said = []
    for target in dict.fromkeys(token.target for token in found.tokens):
        own = [token for token in found.tokens if token.target == target]
        if len(own) <= 4:
            permutations = found.options.permutations
            said += [f"{title(token)}: {verdict(token, permutations)}" for token in own]
            continue
        some = sum(any(e.differs.any() for e in token.levels.values()) for token in own)
        said.append(
            f"{target}: of {len(own)} categories {some} have edges, regions or network pairs that "
            f"differ from {found.options.permutations:,} label-permuted models."
        )
    return said


def agreement(agreed: Agreement, permutations: int) -> str:
    """How well maps agree, and noise beside it."""
    whose = {
        "folds": "of models of different folds",
        "seeds": "of models of different seeds",
        "halves": "of halves that share nobody",
    }[agreed.of]
    text = f"Maps {whose} agree: r = {signed(agreed.mean)} [{signed(agreed.low)}, "
    text += f"{signed(agreed.high)}]"
    if permutations and math.isfinite(agreed.p):
        text += (
            f"; with exchanged labels {signed(agreed.noise)}, 95 % below "
            f"{signed(agreed.noise_high)} ({p_text(agreed.p)})"
        )
    return text + "."


def decoder(token: TokenMap) -> str:
    """Whether the decoder has a say in the answers."""
    gates = token.decoder.gates
    if token.memory is None:
        return "The decoder alone answers."
    if max(gates) == 0:
        return (
            "The decoder is not used (gate 0 in every model): its maps explain nothing of the "
            "prediction."
        )
    used = sum(gate > 0 for gate in gates)
    return (
        f"The decoder is used in {used} of {len(gates)} models (mean gate "
        f"{sum(gates) / len(gates):.2f})."
    )


def within(token: TokenMap) -> str:
    """Between whom labels were exchanged, and what stayed."""
    whom = "people of one site" if token.within == SITE else "people of one set"
    return f"{whom}, what {_joined(token.beyond)} say of them aside" if token.beyond else whom


def signed(value: float, places: int = 2) -> str:
    """``.45`` and ``−.45``, as correlations are printed."""
    text = f"{abs(value):.{places}f}"
    text = text[1:] if text.startswith("0.") else text
    return f"{MINUS}{text}" if value < 0 and text.strip(".0") else text


def p_text(p: float) -> str:
    """``p = .005``, ``p < .001``."""
    if not math.isfinite(p):
        return "not tested"
    return "p < .001" if p < 0.001 else f"p = {signed(p, 3)}"


def _joined(words: Sequence[str], word: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {word} {words[-1]}"
