//! The text of a nats-server configuration to values. A subset: comments,
//! maps, lists, strings, numbers with size suffixes, switches. No variables
//! and no includes: they are refused by name.
//!
//! ```text
//! port: 4222                 # `:`, `=` or a blank after a key
//! tls { cert_file: "a.pem" } // maps need none
//! users = [ {user: a, password: b}, {user: c, password: d} ]
//! max_payload = 128KB
//! ```

/// Deepest nesting of maps and lists; real files have four.
const MAX_DEPTH: usize = 32;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A switch.
    Switch(bool),
    /// A whole number, its suffix worked in.
    Number(i64),
    /// Anything else in one word, or quoted.
    Text(String),
    /// Several.
    List(Vec<Value>),
    /// Named ones, in the order of the file.
    Map(Vec<Entry>),
}

/// A named value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// Its name as written.
    pub(super) key: String,
    /// Line of the file, from 1.
    pub(super) line: usize,
    /// The value.
    pub(super) value: Value,
}

/// Why a text is no configuration. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct ConfError {
    /// Line of the file, from 1.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) what: String,
}

/// Reads a whole file.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, ConfError> {
    let mut reader = Reader { rest: text, line: 1 };
    let entries = reader.entries(None, 0)?;
    Ok(entries)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn error<T>(&self, what: impl std::fmt::Display) -> Result<T, ConfError> {
        Err(ConfError { line: self.line, what: what.to_string() })
    }

    /// Skips blanks and comments, and what `also` names.
    fn skip(&mut self, also: &[char]) {
        while let Some(next) = self.peek() {
            if next == '#' || self.rest.starts_with("//") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
            } else if matches!(next, ' ' | '\t' | '\r') || also.contains(&next) {
                self.bump();
            } else {
                return;
            }
        }
    }

    /// Entries up to `end`, or to the end of the text.
    fn entries(&mut self, end: Option<char>, depth: usize) -> Result<Vec<Entry>, ConfError> {
        let mut entries = Vec::new();
        loop {
            self.skip(&['\n', ',', ';']);
            match self.peek() {
                next if next == end => {
                    self.bump();
                    return Ok(entries);
                }
                None => return self.error("the file ends inside a map: a `}` is missing"),
                Some('}' | ']') => return self.error("a bracket closes what was not open"),
                Some(_) => {}
            }
            let line = self.line;
            let key = self.key()?;
            if key == "include" {
                return self.error("`include` is not supported: put everything into one file");
            }
            self.skip(&[]);
            if matches!(self.peek(), Some(':' | '=')) {
                self.bump();
                self.skip(&['\n']);
            }
            let value = self.value(depth)?;
            entries.push(Entry { key, line, value });
        }
    }

    fn key(&mut self) -> Result<String, ConfError> {
        if let Some(quote @ ('"' | '\'')) = self.peek() {
            return self.quoted(quote);
        }
        let ends = |next: char| next.is_whitespace() || matches!(next, ':' | '=' | '{' | '[' | '"');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (key, rest) = self.rest.split_at(end);
        if key.is_empty() {
            return self.error("a name is missing");
        }
        self.rest = rest;
        Ok(key.to_owned())
    }

    fn value(&mut self, depth: usize) -> Result<Value, ConfError> {
        if depth >= MAX_DEPTH {
            return self.error(format!("maps and lists are nested deeper than {MAX_DEPTH}"));
        }
        match self.peek() {
            Some('{') => {
                self.bump();
                Ok(Value::Map(self.entries(Some('}'), depth + 1)?))
            }
            Some('[') => {
                self.bump();
                self.list(depth + 1)
            }
            Some(quote @ ('"' | '\'')) => self.quoted(quote).map(Value::Text),
            Some('$') => self.error("variables are not supported: write the value itself"),
            Some('(') => self.error("blocks in parentheses are not supported: quote the text"),
            Some('\n' | ',' | ';' | '}' | ']') | None => self.error("a value is missing"),
            Some(_) => Ok(self.bare()),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, ConfError> {
        let mut values = Vec::new();
        loop {
            self.skip(&['\n', ',']);
            match self.peek() {
                Some(']') => {
                    self.bump();
                    return Ok(Value::List(values));
                }
                None => return self.error("the file ends inside a list: a `]` is missing"),
                Some(_) => values.push(self.value(depth)?),
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, ConfError> {
        self.bump();
        let mut text = String::new();
        loop {
            match self.bump() {
                Some(next) if next == quote => return Ok(text),
                Some('\\') if quote == '"' => match self.bump() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(same @ ('"' | '\\')) => text.push(same),
                    _ => return self.error("after a backslash comes one of \" \\ n r t"),
                },
                Some(next) => text.push(next),
                None => return self.error("the file ends inside quotes"),
            }
        }
    }

    /// A word without quotes: a number, a switch or a text.
    fn bare(&mut self) -> Value {
        let ends = |next: char| next.is_whitespace() || matches!(next, ',' | ';' | ']' | '}');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Value::Switch(true),
            "false" | "no" | "off" => Value::Switch(false),
            lower => match sized(lower) {
                Some(number) => Value::Number(number),
                None => Value::Text(word.to_owned()),
            },
        }
    }
}

/// A whole number with a suffix: `k` is 1000, `kb` and `kib` are 1024.
fn sized(word: &str) -> Option<i64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let end = digits.find(|next: char| !next.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, suffix) = digits.split_at(end);
    let number: i64 = digits.parse().ok()?;
    let factor = match suffix {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "kb" | "kib" | "ki" => 1 << 10,
        "mb" | "mib" | "mi" => 1 << 20,
        "gb" | "gib" | "gi" => 1 << 30,
        _ => return None,
    };
    let sign = if word.starts_with('-') { -1 } else { 1 };
    number.checked_mul(factor)?.checked_mul(sign)
}

#[cfg(test)]
mod tests;
