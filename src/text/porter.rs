//! NLTK's Porter stemmer: M. F. Porter, *An algorithm for suffix stripping*, Program 14(3), 1980,
//! with NLTK's changes (words of two letters and a list of irregular words stay; `used` -> `use`,
//! `died` -> `die`, `fulli` -> `ful`, `logi` -> `log`). It equals NLTK's on every word of
//! `tests/golden/stems`.
//!
//! The relation-extraction paper only says "Porter", but its Table V lists the stem `use`, which no
//! English word has in the 1980 algorithm (`use`, `used`, `using` become `us`): the table was made
//! with NLTK's default. Ours, because no crate gives these stems safely: Snowball's "porter2" gives
//! others (`concomit` for concomitantly), and the one exact port that we found indexes without
//! checks and allocates for every rule that it tries.

/// The stem of a word, lower-cased. Any character other than an English vowel counts as a
/// consonant, digits included.
pub fn stem(word: &str) -> String {
    let lower = word.to_lowercase();
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == lower) {
        return (*stem).to_owned();
    }
    if word.chars().nth(2).is_none() {
        return lower;
    }
    let mut word: Vec<char> = lower.chars().collect();
    remove_plural(&mut word);
    remove_past_and_gerund(&mut word);
    soften_y(&mut word);
    shorten_double_suffix(&mut word);
    replace_first(&mut word, &SIMPLE_SUFFIXES);
    remove_residual_suffix(&mut word);
    tidy(&mut word);
    word.into_iter().collect()
}

/// Step 1a: caresses -> caress, ponies -> poni, cats -> cat. NLTK: ties -> tie.
fn remove_plural(word: &mut Vec<char>) {
    let ies = if word.len() == 4 { "ie" } else { "i" };
    for (suffix, replacement) in [("sses", "ss"), ("ies", ies), ("ss", "ss"), ("s", "")] {
        if replace(word, suffix, replacement) {
            return;
        }
    }
}

/// Step 1b: agreed -> agree, plastered -> plaster, motoring -> motor, hopping -> hop, filing ->
/// file. NLTK: died -> die, spied -> spi.
fn remove_past_and_gerund(word: &mut Vec<char>) {
    let ied = if word.len() == 4 { "ie" } else { "i" };
    if replace(word, "ied", ied) {
        return;
    }
    if ends_with(word, "eed") {
        if measure(before(word, "eed")) > 0 {
            word.pop();
        }
        return;
    }
    let shortened =
        ["ed", "ing"].into_iter().any(|suffix| contains_vowel(before(word, suffix)) && replace(word, suffix, ""));
    if !shortened {
        return;
    }
    for (suffix, replacement) in [("at", "ate"), ("bl", "ble"), ("iz", "ize")] {
        if replace(word, suffix, replacement) {
            return;
        }
    }
    if ends_with_double_consonant(word) {
        if !matches!(word.last(), Some('l' | 's' | 'z')) {
            word.pop();
        }
    } else if measure(word) == 1 && ends_with_short_syllable(word) {
        word.push('e');
    }
}

/// Step 1c: happy -> happi. NLTK: by -> by, enjoy -> enjoy, sky -> ski.
fn soften_y(word: &mut Vec<char>) {
    let stem = before(word, "y");
    if stem.len() > 1 && consonants(stem).last() == Some(true) {
        replace(word, "y", "i");
    }
}

/// Step 2: relational -> relate, generalization -> generalize.
fn shorten_double_suffix(word: &mut Vec<char>) {
    // NLTK replaces `alli` first and repeats the step, and differs from the list in three suffixes.
    while measure(before(word, "alli")) > 0 {
        replace(word, "alli", "al");
    }
    if ends_with(word, "logi") {
        if measure(before(word, "ogi")) > 0 {
            word.pop();
        }
        return;
    }
    // `abli` of the list is a case of it, and `biliti` and `eli` end otherwise.
    if ends_with(word, "bli") || ends_with(word, "fulli") {
        replace_first(word, &[("bli", "ble"), ("fulli", "ful")]);
        return;
    }
    replace_first(word, &DOUBLE_SUFFIXES);
}

/// Step 5: a last e, and one of two l.
fn tidy(word: &mut Vec<char>) {
    let stem = before(word, "e");
    let syllables = measure(stem);
    if syllables > 1 || (syllables == 1 && !ends_with_short_syllable(stem)) {
        word.pop();
    }
    if ends_with(word, "ll") && measure(before(word, "l")) > 1 {
        word.pop();
    }
}

/// The algorithm's *o: consonant, vowel, consonant other than w, x, y at the end. NLTK: also a word
/// of vowel, consonant.
fn ends_with_short_syllable(word: &[char]) -> bool {
    let flags: Vec<bool> = consonants(word).collect();
    match flags[..] {
        [.., true, false, true] => !matches!(word.last(), Some('w' | 'x' | 'y')),
        [false, true] => true,
        _ => false,
    }
}

/// NLTK's irregular words.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("inning", "inning"),
    ("innings", "inning"),
    ("outing", "outing"),
    ("outings", "outing"),
    ("canning", "canning"),
    ("cannings", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Step 2 of the paper; longer suffixes are before those that end them.
const DOUBLE_SUFFIXES: [(&str, &str); 20] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("abli", "able"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
];

/// Step 3.
const SIMPLE_SUFFIXES: [(&str, &str); 7] =
    [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

/// Step 4; longer suffixes are before those that end them.
const RESIDUAL_SUFFIXES: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// Step 4: remove the suffix after a long stem; `ion` only after s or t.
fn remove_residual_suffix(word: &mut Vec<char>) {
    let Some(suffix) = RESIDUAL_SUFFIXES.into_iter().find(|suffix| ends_with(word, suffix)) else { return };
    let stem = before(word, suffix);
    if measure(stem) > 1 && (suffix != "ion" || matches!(stem.last(), Some('s' | 't'))) {
        replace(word, suffix, "");
    }
}

/// Apply the first rule whose suffix matches, if its stem has m > 0; later rules are not tried.
fn replace_first(word: &mut Vec<char>, rules: &[(&str, &str)]) {
    if let Some((suffix, replacement)) = rules.iter().find(|(suffix, _)| ends_with(word, suffix))
        && measure(before(word, suffix)) > 0
    {
        replace(word, suffix, replacement);
    }
}

fn ends_with(word: &[char], suffix: &str) -> bool {
    // All suffixes are ASCII, so bytes are characters.
    word.len() >= suffix.len() && word.iter().rev().zip(suffix.chars().rev()).all(|(a, b)| *a == b)
}

/// The word without a suffix; empty if it does not have the suffix.
fn before<'a>(word: &'a [char], suffix: &str) -> &'a [char] {
    if ends_with(word, suffix) { &word[..word.len() - suffix.len()] } else { &[] }
}

fn replace(word: &mut Vec<char>, suffix: &str, replacement: &str) -> bool {
    let there = ends_with(word, suffix);
    if there {
        word.truncate(word.len() - suffix.len());
        word.extend(replacement.chars());
    }
    there
}

/// For each letter, whether it is a consonant; y is one at the start and after a vowel.
fn consonants(word: &[char]) -> impl Iterator<Item = bool> {
    word.iter().scan(false, |previous, letter| {
        *previous = match letter {
            'a' | 'e' | 'i' | 'o' | 'u' => false,
            'y' => !*previous,
            _ => true,
        };
        Some(*previous)
    })
}

fn contains_vowel(stem: &[char]) -> bool {
    consonants(stem).any(|consonant| !consonant)
}

/// The paper's m: how often a run of vowels is followed by a run of consonants.
fn measure(stem: &[char]) -> usize {
    let flags: Vec<bool> = consonants(stem).collect();
    flags.windows(2).filter(|pair| matches!(pair, [false, true])).count()
}

/// The paper's *d.
fn ends_with_double_consonant(word: &[char]) -> bool {
    matches!(word, [.., a, b] if a == b) && consonants(word).last() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples printed next to the rules in the 1980 paper, after all steps, except those that
    /// NLTK changes.
    #[test]
    fn stems_of_the_algorithm_paper() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("cats", "cat"),
            ("feed", "feed"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("bled", "bled"),
            ("motoring", "motor"),
            ("sing", "sing"),
            ("conflated", "conflat"),
            ("troubled", "troubl"),
            ("sized", "size"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("hissing", "hiss"),
            ("failing", "fail"),
            ("filing", "file"),
            ("happy", "happi"),
            ("relational", "relat"),
            ("vietnamization", "vietnam"),
            ("sensibiliti", "sensibl"),
            ("electrical", "electr"),
            ("goodness", "good"),
            ("replacement", "replac"),
            ("adoption", "adopt"),
            ("probate", "probat"),
            ("cease", "ceas"),
            ("controll", "control"),
            ("roll", "roll"),
            ("generalizations", "gener"),
            ("oscillators", "oscil"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }

    /// The stems of the relation-extraction paper's Table V from their words.
    #[test]
    fn stems_of_table_5() {
        for (word, expected) in [
            ("concomitantly", "concomitantli"),
            ("Concomitant", "concomit"),
            ("combination", "combin"),
            ("increased", "increas"),
            ("decreases", "decreas"),
            ("use", "use"),
            ("used", "use"),
            ("concurrent", "concurr"),
            ("inhibitor", "inhibitor"),
            ("inhibition", "inhibit"),
            ("receiving", "receiv"),
            ("administered", "administ"),
            ("activated", "activ"),
            ("association", "associ"),
            ("interactions", "interact"),
            ("specifically", "specif"),
            ("specific", "specif"),
            ("specify", "specifi"),
            ("phosphorylation", "phosphoryl"),
            ("attenuates", "attenu"),
            ("metabolism", "metabol"),
            ("regulates", "regul"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }

    #[test]
    fn any_string_has_a_stem() {
        for word in ["", "s", "y", "yyyyyyy", "ss", "e", "ll", "IL-2s", "β-catenined", "İng", "@drug$", "日本語ed"]
        {
            stem(word);
        }
    }
}
