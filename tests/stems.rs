//! Stems against NLTK's, in both modes, on words that meet every rule (`tests/golden/stems/make_golden.py`).

use biorel::text::{Porter, stem};

#[test]
fn stems_equal_those_of_nltk() {
    let golden = include_str!("golden/stems/stems.tsv");
    let mut words = 0;
    for line in golden.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [word, original, nltk] = fields[..] else { panic!("bad line `{line}`") };
        assert_eq!(Porter::Original.stem(word), original, "{word}, as in 1980");
        assert_eq!(stem(word), nltk, "{word}, as NLTK");
        words += 1;
    }
    assert!(words > 8000, "{words}");
}
