"""Write stems.tsv: a word and its stem by NLTK's Porter stemmer in its default mode.

The words combine stems and endings, so that every rule of the algorithm meets every kind of stem.
Run once, in its own environment: `pip install nltk==3.10.4 && python make_golden.py`.
The Rust test `tests/stems.rs` stems every word again.
"""

import pathlib

from nltk.stem.porter import PorterStemmer

ROOTS = """a b ab be toy syzyg tr tree ivi oat trouble troubl priv oaten orrer activ associ interact inhibit decreas increas
stimul regul concomitant administ phosphoryl metabol attenu deriv specif human protein bind domain recept novel induc reduc
combin concurr us di ti li fl sp hop hopp fall hiss fizz fail fil fit wh bow box pay ow yy ayy ya fe agre plast bl sing siz
siz conflat analog archaeolog ge the digit radic differ vil hesit valenc form cap good fun call ro controll
il-2 2 p53 β -kinas café""".split()

ENDINGS = """s sses ies ss es ied eed eeds ed ing at bl iz ated bled ized y ly ally ately ational tional enci ence anci ance izer
abli ably alli entli ently eli ely ousli ously ization ation ator alism iveness fulness ousness aliti ality iviti ivity biliti
bility fulli fully logi logy icate ative alize iciti icity ical ful ness al er ic able ible ant ement ment ent sion tion ion ou
ism ate iti ous ive ize e ee ll lle l alally""".split()

WORDS = """sky skies dying lying tying news inning innings outing outings canning cannings howe proceed exceed succeed dies
died ties tied flies flied by say enjoy happy use used using useful uses generalizations oscillators concomitantly specifically
I As THE Binding""".split()


def main():
    stemmer = PorterStemmer()
    words = dict.fromkeys(WORDS + ROOTS + [root + ending for root in ROOTS for ending in ENDINGS])
    lines = [f"{word}\t{stemmer.stem(word)}\n" for word in words]
    pathlib.Path(__file__).with_name("stems.tsv").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
