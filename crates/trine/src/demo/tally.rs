//! Words and how often they come: counted here on one thread, summed up from
//! what tasks counted, compared. Pure.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

/// How often each word comes. (The hasher is fixed; no order is ever used.)
#[derive(Debug, Default)]
pub struct Tally {
    counts: HashMap<Vec<u8>, u64, BuildHasherDefault<DefaultHasher>>,
}

impl Tally {
    /// Counts the words of a text: runs of ASCII letters, capitals as small ones.
    pub fn count(&mut self, text: &[u8]) {
        let small = text.to_ascii_lowercase();
        let words = small.split(|byte| !byte.is_ascii_lowercase());
        for word in words.filter(|word| !word.is_empty()) {
            self.add(word, 1);
        }
    }

    /// Adds what a task counted: a line for each word, the word and its count.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn sum(&mut self, lines: &[u8]) -> Result<(), String> {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let cut = line.iter().position(|byte| *byte == b' ');
            let pair = cut.and_then(|at| {
                let count = std::str::from_utf8(&line[at + 1..]).ok()?.parse().ok()?;
                Some((&line[..at], count))
            });
            let (word, count) = pair.ok_or_else(|| String::from_utf8_lossy(line).into_owned())?;
            self.add(word, count);
        }
        Ok(())
    }

    fn add(&mut self, word: &[u8], count: u64) {
        match self.counts.get_mut(word) {
            Some(sum) => *sum += count,
            None => drop(self.counts.insert(word.to_vec(), count)),
        }
    }

    /// All words, each as often as it comes.
    #[must_use]
    pub fn words(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Different words.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.counts.len()
    }

    /// Words that do not come equally often in both.
    #[must_use]
    pub fn differing(&self, other: &Self) -> usize {
        let here = self.counts.iter().filter(|(word, count)| other.counts.get(*word) != Some(count));
        here.count() + other.counts.keys().filter(|word| !self.counts.contains_key(*word)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters() {
        let mut tally = Tally::default();
        tally.count(b"fn Foo_bar(x: u8) -> Foo { \xc3\xa4foo }");
        let mut summed = Tally::default();
        summed.sum(b"bar 1\nfn 1\nfoo 1\n").expect("counts");
        assert_eq!(tally.differing(&summed), 3, "foo, x and u");
        summed.sum(b"foo 2\nx 1\nu 1\n").expect("counts");
        assert_eq!((tally.differing(&summed), summed.differing(&tally)), (0, 0));
        assert_eq!((tally.words(), tally.distinct()), (7, 5));
    }

    #[test]
    fn a_line_that_is_no_count_is_named() {
        assert_eq!(Tally::default().sum(b"a 1\nb x\n"), Err("b x".to_owned()));
        assert_eq!(Tally::default().sum(b"alone\n"), Err("alone".to_owned()));
    }
}
