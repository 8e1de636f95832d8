//! Prompts of a known number of words, the same for every server and every run with the same seed.

/// Short common words: one token each, with the space before them, in nearly every vocabulary. A power of two of them.
const WORDS: [&str; 64] = [
    "the", "and", "you", "that", "was", "for", "are", "with", "his", "they", "one", "have", "this", "from",
    "had", "hot", "but", "some", "what", "there", "we", "can", "out", "other", "were", "all", "your", "when",
    "up", "use", "word", "how", "said", "an", "each", "she", "which", "do", "their", "time", "if", "will",
    "way", "about", "many", "then", "them", "would", "like", "so", "these", "her", "long", "make", "thing",
    "see", "him", "two", "has", "look", "more", "day", "could", "go",
];

/// A prompt of `words` words. The first `shared` of them depend on the seed alone, the others on the request too.
pub(crate) fn prompt((words, shared): (u64, u64), seed: u64, request: u64) -> String {
    let mut text = String::with_capacity(words as usize * 6);
    for i in 0..words {
        let stream = if i < shared { seed } else { mix(seed ^ mix(request + 1)) };
        if i > 0 {
            text.push(' ');
        }
        text.push_str(WORDS[(mix(stream ^ mix(i)) % WORDS.len() as u64) as usize]);
    }
    text
}

/// A number that looks like chance: the finaliser of SplitMix64.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_share_their_beginning_and_nothing_else() {
        let (a, b) = (prompt((50, 20), 1, 0), prompt((50, 20), 1, 1));
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (a, b) = (words(&a), words(&b));
        assert_eq!((a.len(), b.len()), (50, 50));
        assert_eq!(a[..20], b[..20]);
        assert_ne!(a[20..], b[20..]);
        assert_eq!(prompt((50, 20), 1, 0), a.join(" "), "the same every time");
        assert_ne!(prompt((50, 20), 2, 0), a.join(" "));
    }
}
