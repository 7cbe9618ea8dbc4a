//! Entity tags and entity markers in marked texts.
//!
//! A *tag* such as `@DRUG$` or `@CHEM-GENE$` replaces a mention (the paper's anonymisation); a
//! *marker* such as `[E1]` or `[/E2]` is inserted before or after one. BERT's pre-tokenizer splits
//! both at their punctuation. A reader sees one word, so whatever works on words joins the parts.

use super::Span;

/// The tags and markers of a text, as character spans in order.
pub fn find_tags(text: &str) -> Vec<Span> {
    if !text.contains(['@', '[']) {
        return Vec::new();
    }
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut start = 0;
    while start < chars.len() {
        match tag_length(&chars[start..]) {
            Some(length) => {
                found.push(Span { start, end: start + length });
                start += length;
            }
            None => start += 1,
        }
    }
    found
}

/// Whether the whole string is one tag or marker.
pub fn is_tag(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    tag_length(&chars) == Some(chars.len())
}

/// Whether the whole string is an entity marker: `[E1]`, `[/E1]`, `[E2]`, `[/E2]`.
pub fn is_marker(text: &str) -> bool {
    text.starts_with('[') && is_tag(text)
}

/// Length of the tag or marker that starts here.
fn tag_length(chars: &[char]) -> Option<usize> {
    match chars {
        ['@', rest @ ..] => {
            let name =
                rest.iter().take_while(|c| c.is_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_')).count();
            (name > 0 && rest.get(name) == Some(&'$')).then_some(name + 2)
        }
        ['[', 'E', '1' | '2', ']', ..] => Some(4),
        ['[', '/', 'E', '1' | '2', ']', ..] => Some(5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let chars: Vec<char> = text.chars().collect();
        find_tags(text).iter().map(|span| chars[span.start..span.end].iter().collect()).collect()
    }

    #[test]
    fn finds_tags_and_markers_and_nothing_else() {
        assert_eq!(found("é @DRUG$ and anti-@CHEM-GENE$@GENE$s"), ["@DRUG$", "@CHEM-GENE$", "@GENE$"]);
        assert_eq!(found("[E1] IL-2 [/E1] binds [E2]x[/E2]"), ["[E1]", "[/E1]", "[E2]", "[/E2]"]);
        assert!(found("a@b.c costs 3$ @drug$ @$ @@ [1] [E3] [E1 @DRUG @ DRUG$ [").is_empty());
    }

    #[test]
    fn recognises_tags_and_markers_as_a_whole() {
        assert!(is_tag("@CELL_LINE$") && is_tag("[/E2]") && is_marker("[/E2]"));
        assert!(!is_tag("@DRUG$ ") && !is_tag("") && !is_marker("@DRUG$") && !is_marker("[CLS]"));
    }
}
